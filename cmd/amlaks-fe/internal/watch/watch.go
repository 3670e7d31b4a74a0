// Package watch tells the front end what its namespace holds: routes, keys, endpoints and
// its certificate, by informers on just these.
package watch

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/amlaks/amlaks/reconcile/kube/routes"
)

// KeysSelector marks the Secrets that hold services' keys.
const KeysSelector = "amlaks.io/keys=true"

// Sink is what is told. Calls come from several goroutines.
type Sink interface {
	SetTable(routes.Table)
	SetKeys(secret string, keys ...[]byte)
	SetEndpoints(backend string, ips []string)
	SetPeers(ips []string)
	SetCertificate(chain, key []byte) error
}

// Watcher watches one namespace.
type Watcher struct {
	Namespace string
	// PeerService is the Service of the front ends; empty if there is only this one.
	PeerService string
	// TLSSecret is the Secret of the certificate; empty if TLS is not spoken.
	TLSSecret string
	Sink      Sink
	Log       *slog.Logger

	slices  cache.Indexer
	running sync.WaitGroup
}

// Wait returns when nothing is watched any more, after the end of Start's context.
func (w *Watcher) Wait() { w.running.Wait() }

// source is what is watched, and who hears of it.
type source struct {
	client   *rest.RESTClient
	resource string
	object   runtime.Object
	options  func(*metav1.ListOptions)
	handler  cache.ResourceEventHandler
}

// Start begins to watch and returns what tells whether everything has been
// heard at least once. It ends with ctx.
func (w *Watcher) Start(ctx context.Context, config *rest.Config) (synced func() bool, err error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("register kinds: %w", err)
		}
	}
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	client := func(gv schema.GroupVersion, path string) (*rest.RESTClient, error) {
		c := rest.CopyConfig(config)
		c.GroupVersion, c.APIPath = &gv, path
		c.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
		if c.UserAgent == "" {
			c.UserAgent = "amlaks-fe"
		}
		return rest.RESTClientFor(c)
	}
	core, err := client(corev1.SchemeGroupVersion, "/api")
	if err != nil {
		return nil, fmt.Errorf("client of the API server: %w", err)
	}
	discovery, err := client(discoveryv1.SchemeGroupVersion, "/apis")
	if err != nil {
		return nil, fmt.Errorf("client of the API server: %w", err)
	}

	byService := cache.Indexers{discoveryv1.LabelServiceName: func(obj any) ([]string, error) {
		return []string{obj.(*discoveryv1.EndpointSlice).Labels[discoveryv1.LabelServiceName]}, nil
	}}
	sources := []source{
		{core, "configmaps", &corev1.ConfigMap{}, func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("metadata.name", routes.ConfigMap).String()
		}, on(w.routes, nil)},
		{core, "secrets", &corev1.Secret{}, func(o *metav1.ListOptions) { o.LabelSelector = KeysSelector }, on(w.keys, w.keysGone)},
		{discovery, "endpointslices", &discoveryv1.EndpointSlice{}, func(o *metav1.ListOptions) {
			o.LabelSelector = discoveryv1.LabelServiceName
		}, on(w.endpoints, w.endpoints)},
	}
	if w.TLSSecret != "" {
		sources = append(sources, source{core, "secrets", &corev1.Secret{}, func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("metadata.name", w.TLSSecret).String()
		}, on(w.certificate, nil)})
	}
	var all []cache.InformerSynced
	var informers []cache.SharedIndexInformer
	for _, s := range sources {
		lw := cache.NewFilteredListWatchFromClient(s.client, s.resource, w.Namespace, s.options)
		informer := cache.NewSharedIndexInformer(lw, s.object, 0, byServiceOnly(s.resource, byService))
		registration, err := informer.AddEventHandler(s.handler)
		if err != nil {
			return nil, fmt.Errorf("watch %s: %w", s.resource, err)
		}
		if s.resource == "endpointslices" {
			w.slices = informer.GetIndexer()
		}
		// Synced means that the handler has run, not only that the list came.
		all = append(all, registration.HasSynced)
		informers = append(informers, informer)
	}
	for _, informer := range informers {
		w.running.Go(func() { informer.Run(ctx.Done()) })
	}
	return func() bool {
		return !slices.ContainsFunc(all, func(synced cache.InformerSynced) bool { return !synced() })
	}, nil
}

func byServiceOnly(resource string, indexers cache.Indexers) cache.Indexers {
	if resource == "endpointslices" {
		return indexers
	}
	return cache.Indexers{}
}

// on makes typed handlers of changed (added or updated) and gone.
func on[T runtime.Object](changed, gone func(T)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { changed(obj.(T)) },
		UpdateFunc: func(_, obj any) { changed(obj.(T)) },
		DeleteFunc: func(obj any) {
			if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			if o, ok := obj.(T); ok && gone != nil {
				gone(o)
			}
		},
	}
}

// routes takes over a table that reads well; a broken or deleted one leaves the last.
func (w *Watcher) routes(m *corev1.ConfigMap) {
	var table routes.Table
	if err := json.Unmarshal([]byte(m.Data[routes.Key]), &table); err != nil {
		w.Log.Error("routes not taken over", "configMap", m.Name, "error", err)
		return
	}
	w.Log.Info("routes", "services", len(table.Services))
	w.Sink.SetTable(table)
}

func (w *Watcher) keys(s *corev1.Secret) {
	w.Sink.SetKeys(s.Name, s.Data[routes.PrimaryKey], s.Data[routes.SecondaryKey])
}

// certificate takes over one that can be used; a broken or deleted one leaves the last.
func (w *Watcher) certificate(s *corev1.Secret) {
	if err := w.Sink.SetCertificate(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey]); err != nil {
		w.Log.Error("certificate not taken over", "secret", s.Name, "error", err)
	}
}

func (w *Watcher) keysGone(s *corev1.Secret) { w.Sink.SetKeys(s.Name) }

// endpoints collects all slices of the changed one's Service.
func (w *Watcher) endpoints(changed *discoveryv1.EndpointSlice) {
	name := changed.Labels[discoveryv1.LabelServiceName]
	objects, err := w.slices.ByIndex(discoveryv1.LabelServiceName, name)
	if err != nil {
		w.Log.Error("endpoints not read", "service", name, "error", err)
		return
	}
	var ips []string
	for _, o := range objects {
		for _, e := range o.(*discoveryv1.EndpointSlice).Endpoints {
			// Unset means ready (discovery/v1, EndpointConditions).
			if ready := e.Conditions.Ready; (ready == nil || *ready) && len(e.Addresses) > 0 {
				ips = append(ips, e.Addresses[0])
			}
		}
	}
	slices.Sort(ips)
	ips = slices.Compact(ips)
	if name == w.PeerService {
		w.Sink.SetPeers(ips)
		return
	}
	w.Sink.SetEndpoints(name, ips)
}
