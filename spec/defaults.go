package spec

// DefaultVMSize is the size of a made cluster's nodes when the file names none:
// 4 vCPU, so that 3 nodes are the 12 that production needs. (v1's own default,
// Standard_D3_v2, retires on 2028-05-01.)
const DefaultVMSize = "Standard_D4ds_v5"

// densePods is the most that AKS takes on a node of its overlay network.
const densePods = 250

// The taints of pools with accelerators, which services that ask for one tolerate.
const (
	TaintGPU  = "sku=gpu:NoSchedule"
	TaintFPGA = "sku=fpga:NoSchedule"
)

// fillDefaults adds the defaults to the tree: first those that depend on other
// fields, then those of the schema.
func (d *document) fillDefaults() {
	for _, cluster := range mappings(d.root["clusters"]) {
		clusterDefaults(cluster)
	}
	for _, service := range mappings(d.root["services"]) {
		serviceDefaults(service)
	}
	if s, err := loadSchema(); err == nil {
		s.fill(s.text, d.root)
	}
}

func clusterDefaults(cluster map[string]any) {
	nodes, replicas := 3, 3
	if cluster["purpose"] == string(DevTest) {
		nodes, replicas = 1, 1
	}
	if _, attached := cluster["attach"]; !attached {
		setDefault(cluster, "vmSize", DefaultVMSize)
		setDefault(cluster, "agentCount", nodes)
		nodeDefaults(cluster)
	}
	for _, pool := range mappings(cluster["nodePools"]) {
		if pool["minCount"] == nil && pool["maxCount"] == nil {
			setDefault(pool, "agentCount", 1)
		}
		poolDefaults(cluster, pool)
	}
	if cluster["loadBalancerType"] == InternalLoadBalancer {
		subnet := any("aks-subnet") // the subnet of a network that AKS makes; v1's default too
		if vnet, ok := cluster["vnet"].(map[string]any); ok && vnet["subnet"] != nil {
			subnet = vnet["subnet"]
		}
		setDefault(cluster, "loadBalancerSubnet", subnet)
	}
	setDefault(cluster, "frontEnd", map[string]any{})
	if frontEnd, ok := cluster["frontEnd"].(map[string]any); ok {
		port := 80
		if _, ssl := cluster["ssl"]; ssl {
			port = 443
		}
		setDefault(frontEnd, "replicas", replicas)
		setDefault(frontEnd, "port", port)
	}
}

// nodeDefaults are those of what purpose says of the nodes. An adopted cluster keeps the zones
// that it has: they cannot be changed without new nodes.
func nodeDefaults(cluster map[string]any) {
	if cluster["adopt"] != true {
		zones := []any{int64(1), int64(2), int64(3)}
		if cluster["purpose"] == string(DevTest) {
			zones = []any{}
		}
		setDefault(cluster, "zones", zones)
	}
	if cluster["purpose"] == string(DenseProd) {
		setDefault(cluster, "maxPods", int64(densePods))
	}
}

// poolDefaults are those of a further pool. What has GPUs or FPGAs is dear, and is kept for the
// pods that ask for it: the taint and the label are those of AKS' own documentation on GPUs.
// Azure has such sizes in few zones, so these pools have none of their own.
func poolDefaults(cluster, pool map[string]any) {
	name, _ := pool["vmSize"].(string)
	size, _ := VMSize(name)
	zones, owned := cluster["zones"].([]any)
	switch {
	case size.GPU > 0:
		setDefault(pool, "labels", map[string]any{"accelerator": "nvidia"})
		setDefault(pool, "taints", []any{TaintGPU})
	case size.FPGA > 0:
		setDefault(pool, "labels", map[string]any{"accelerator": "fpga"})
		setDefault(pool, "taints", []any{TaintFPGA})
	}
	if size.GPU+size.FPGA > 0 {
		zones = []any{}
	}
	if owned {
		setDefault(pool, "zones", append([]any{}, zones...))
	}
	if pods, given := cluster["maxPods"]; given {
		setDefault(pool, "maxPods", pods)
	}
}

func serviceDefaults(service map[string]any) {
	if service["authMode"] == string(AuthToken) {
		setDefault(service, "token", map[string]any{})
	}
	if service["numReplicas"] == nil {
		setDefault(service, "autoScaler", map[string]any{})
	}
	versions := mappings(service["versions"])
	for _, version := range versions {
		if version["isDefault"] == true {
			return
		}
	}
	if len(versions) > 0 {
		versions[0]["isDefault"] = true
	}
}

// fill adds the defaults of the schema node to value, and to what value holds.
func (s *fileSchema) fill(node map[string]any, value any) {
	node = s.resolve(node)
	switch value := value.(type) {
	case map[string]any:
		properties, _ := node["properties"].(map[string]any)
		for name, property := range properties {
			keywords := s.resolve(property.(map[string]any))
			if preset, ok := keywords["default"]; ok {
				setDefault(value, name, clone(preset))
			}
			if child, ok := value[name]; ok {
				s.fill(keywords, child)
			}
		}
	case []any:
		if items, ok := node["items"].(map[string]any); ok {
			for _, item := range value {
				s.fill(items, item)
			}
		}
	}
}

// clone copies a default, so that no two files share one. Those of the schema
// are scalars and empty objects and lists, which fill adds to.
func clone(value any) any {
	switch value := value.(type) {
	case map[string]any:
		return map[string]any{}
	case []any:
		return []any{}
	default:
		return value
	}
}

func setDefault(m map[string]any, name string, value any) {
	if _, ok := m[name]; !ok {
		m[name] = value
	}
}

// mappings returns the entries of a list that are mappings.
func mappings(list any) []map[string]any {
	items, _ := list.([]any)
	out := make([]map[string]any, 0, len(items))
	for _, item := range items {
		if m, ok := item.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}
