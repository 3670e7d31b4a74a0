package spec

import "regexp"

// pending are the fields that are read and checked but do nothing, or not all,
// in this version. A line leaves the table when its field works.
var pending = []struct {
	field string // [] stands for any index
	value any    // the value that does nothing yet; nil: any
	says  string
}{
	{"clusters[].frontEnd.expose", ExposeGateway, "this version does not expose the front end by a gateway yet"},
	{"services[].autoScaler", nil, "the front end of this version keeps minReplicas and does not scale yet"},
	{"services[].token.issuer", IssuerEntra, "the front end of this version does not accept Entra tokens yet"},
	{"services[].appInsightsEnabled", true, "this version sends nothing to Application Insights yet"},
	{"services[].dataCollection.storageEnabled", true, "this version does not store payloads yet"},
	{"services[].inference.requirements", nil, "this version does not install Python packages yet: the base image must hold them"},
	{"services[].versions[].inference.requirements", nil, "this version does not install Python packages yet: the base image must hold them"},
}

var anyIndex = regexp.MustCompile(`\[\d+\]`)

// warnPending warns of what the file asks for in vain.
func (d *document) warnPending() {
	for _, s := range d.order {
		shape := anyIndex.ReplaceAllString(s.field, "[]")
		for _, p := range pending {
			if p.field == shape && (p.value == nil || p.value == s.data) {
				d.warn(s.field, p.says, "")
			}
		}
	}
}
