package kube

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestAddress: what clients are told to call.
func TestAddress(t *testing.T) {
	for _, test := range []struct {
		name                       string
		label, region, cname, want string
		port                       int32
	}{
		{"plain", "", "westeurope", "", "http://192.0.2.1", 80},
		{"another port", "", "", "", "http://192.0.2.1:8080", 8080},
		{"name of a certificate", "", "", "score.example.com", "https://score.example.com", 443},
		{"that and another port", "", "", "score.example.com", "https://score.example.com:8443", 8443},
		{"https on http's port", "", "", "score.example.com", "https://score.example.com:80", 80},
		{"label", "ml", "westeurope", "", "http://ml.westeurope.cloudapp.azure.com", 80},
		{"region as people write it", "ml", "West Europe", "", "http://ml.westeurope.cloudapp.azure.com", 80},
		{"China", "ml", "chinanorth3", "", "http://ml.chinanorth3.cloudapp.chinacloudapi.cn", 80},
		{"US government", "ml", "usgovvirginia", "", "http://ml.usgovvirginia.cloudapp.usgovcloudapi.net", 80},
		{"the certificate's name comes first", "ml", "westeurope", "score.example.com", "https://score.example.com", 443},
		{"region not known", "ml", "(known after apply)", "", "http://192.0.2.1", 80},
	} {
		t.Run(test.name, func(t *testing.T) {
			service := &corev1.Service{}
			service.Annotations = map[string]string{annotationDNSLabel: test.label, annotationRegion: test.region, annotationCName: test.cname}
			service.Spec.Ports = []corev1.ServicePort{{Port: test.port}}
			if got := frontEndAddress(service); got != "" {
				t.Errorf("without a load balancer: %s", got)
			}
			service.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
			if got := frontEndAddress(service); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}
