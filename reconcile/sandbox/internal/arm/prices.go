package arm

import (
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// The public price list, which in Azure is elsewhere (prices.azure.com) and wants no token.
const pricesPath = "/api/retail/prices"

// pricesPerPage is small, so that clients meet a second page.
const pricesPerPage = 4

// exchange is what a dollar is in the currencies that the sandbox's list has.
var exchange = map[string]float64{"USD": 1, "EUR": 0.92, "GBP": 0.79}

var priceTerm = regexp.MustCompile(`(\w+) eq '((?:[^']|'')*)'`)

// listPrices answers a question to the price list. Whoever sends a token to it has made a
// mistake, which the real one would not tell.
func (s *Server) listPrices(w http.ResponseWriter, r *http.Request) {
	refuse := func(message string) {
		reply(w, http.StatusBadRequest, body{"Error": body{"Code": "BadRequest", "Message": message}})
	}
	query := r.URL.Query()
	currency := strings.Trim(query.Get("currencyCode"), "'")
	if currency == "" {
		currency = "USD"
	}
	skip, err := strconv.Atoi(query.Get("$skip"))
	switch {
	case r.Method != http.MethodGet:
		refuse("only GET")
		return
	case r.Header.Get("Authorization") != "":
		refuse("the price list is public: a token must not be sent to it")
		return
	case exchange[currency] == 0:
		refuse("Invalid currency code: " + currency)
		return
	case query.Get("$skip") != "" && (err != nil || skip < 0):
		refuse("$skip")
		return
	}
	is := map[string]string{}
	for _, term := range priceTerm.FindAllStringSubmatch(query.Get("$filter"), -1) {
		is[term[1]] = strings.ReplaceAll(term[2], "''", "'")
	}
	items := []body{}
	for _, item := range priceItems(is["armRegionName"], is["armSkuName"], exchange[currency], currency) {
		matches := true
		for field, value := range is { // with regard to case
			if field == "priceType" {
				field = "type"
			}
			matches = matches && item[field] == value
		}
		if matches {
			items = append(items, item)
		}
	}
	from := min(skip, len(items))
	to := min(from+pricesPerPage, len(items))
	answer := body{"BillingCurrency": currency, "CustomerEntityId": "Default", "CustomerEntityType": "Retail", "Items": items[from:to], "NextPageLink": nil, "Count": to - from}
	if to < len(items) {
		query.Set("$skip", strconv.Itoa(to))
		answer["NextPageLink"] = s.config.Endpoint + pricesPath + "?" + query.Encode()
	}
	reply(w, http.StatusOK, answer)
}

// priceItems are the prices of a VM size and of AKS in a region: those that are wanted, among
// all that look like them.
func priceItems(region, name string, rate float64, currency string) []body {
	item := func(service, product, meter, sku string, dollars float64, more body) body {
		price := math.Round(dollars*rate*1e6) / 1e6
		b := body{
			"currencyCode": currency, "tierMinimumUnits": 0.0, "retailPrice": price, "unitPrice": price, "armRegionName": region, "location": "EU West",
			"effectiveStartDate": "2024-05-01T00:00:00Z", "meterId": "00000000-0000-0000-0000-000000000000", "meterName": meter, "productId": "DZH318Z0",
			"skuId": "DZH318Z0/0001", "productName": product, "skuName": sku, "serviceName": service, "serviceId": "DZH313Z7MMC8",
			"serviceFamily": "Compute", "unitOfMeasure": "1 Hour", "type": "Consumption", "isPrimaryMeterRegion": true, "armSkuName": "",
		}
		for key, value := range more {
			b[key] = value
		}
		return b
	}
	const aks = "Azure Kubernetes Service"
	all := []body{
		item(aks, aks, "Standard Long Term Support", "Standard", 0.6, nil),
		item(aks, aks, "Standard Uptime SLA", "Standard", 0.1, nil),
		item(aks, aks+" - Automatic", "Automatic Hosted Control Plane", "Automatic", 0.16, nil),
	}
	s, ok := sizeOf(name)
	if !ok {
		return all
	}
	const vms = "Virtual Machines"
	short := strings.ReplaceAll(strings.TrimPrefix(s.name, "Standard_"), "_", " ")
	linux, windows := vms+" "+s.family.product+" Series", vms+" "+s.family.product+" Series Windows"
	dollars := priceOf(s)
	vm := func(product, meter string, dollars float64, more body) {
		b := item(vms, product, meter, meter, dollars, more)
		b["armSkuName"] = s.name
		all = append(all, b)
	}
	vm(windows, short, dollars*1.7, nil)
	vm(linux, short+" Low Priority", dollars*0.2, nil)
	vm(linux, short+" Spot", dollars*0.15, nil)
	vm(windows, short+" Spot", dollars*0.3, nil)
	vm(linux, short, dollars*1.1, body{"effectiveStartDate": "2020-01-01T00:00:00Z"})
	vm(linux, short, dollars, nil)
	vm(linux, short, dollars*1.3, body{"isPrimaryMeterRegion": false})
	vm(s.family.product+" Series Cloud Services", short, dollars*1.2, nil)
	vm(linux, short, dollars*0.8, body{"type": "DevTestConsumption"})
	vm(linux, short, dollars*5000, body{"type": "Reservation", "reservationTerm": "1 Year"})
	return all
}

// priceOf is near what Azure asks in westeurope in 2026: 0.272 for four vCPU of Ddsv5.
func priceOf(s size) float64 {
	return float64(s.vCPU)*0.058 + s.gib*0.0025 + float64(s.gpus)*0.3
}
