package spec

// checkFrontEnd reports what is asked of an address that is not there, or not public.
func (d *document) checkFrontEnd(c *Cluster, at string) {
	if port := at + ".frontEnd.port"; c.SSL != nil && c.FrontEnd.Port == 80 && d.written(port) {
		d.warn(port, "with ssl the front end speaks https on it, and 80 is where clients expect http", "leave it out for 443")
	}
	label := at + ".frontEnd.dnsLabel"
	if !d.written(label) || d.broken(label) {
		return
	}
	switch {
	case c.FrontEnd.Expose != ExposeLoadBalancer && !d.broken(at+".frontEnd.expose"):
		d.failf(label, "", "names the public address of a load balancer, and expose %s makes none", c.FrontEnd.Expose)
	case c.LoadBalancerType == InternalLoadBalancer && !d.broken(at+".loadBalancerType"):
		d.fail(label, "names a public address, and that of an InternalLoadBalancer is not", "make a DNS record in a private zone, and take it for ssl.cname")
	}
}
