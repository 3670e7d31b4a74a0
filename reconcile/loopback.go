package reconcile

import "net"

// IsLoopback tells whether a host, without its port, is this machine: the only place to
// which anything insecure may go. A name other than localhost is not looked up.
func IsLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
