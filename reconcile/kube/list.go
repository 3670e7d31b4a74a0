package kube

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// pageSize is how many objects a LIST page has. A page is all that is held of a kind at a
// time: a thousand Deployments are some 15 MB when they are decoded.
const pageSize = 1000

// new gives an empty object of the kind, and an empty list of such.
func (k kind) new() (runtime.Object, runtime.Object) {
	switch k {
	case kindNamespace:
		return &corev1.Namespace{}, &corev1.NamespaceList{}
	case kindServiceAccount:
		return &corev1.ServiceAccount{}, &corev1.ServiceAccountList{}
	case kindRole:
		return &rbacv1.Role{}, &rbacv1.RoleList{}
	case kindRoleBinding:
		return &rbacv1.RoleBinding{}, &rbacv1.RoleBindingList{}
	case kindConfigMap:
		return &corev1.ConfigMap{}, &corev1.ConfigMapList{}
	case kindSecret:
		return &corev1.Secret{}, &corev1.SecretList{}
	case kindService:
		return &corev1.Service{}, &corev1.ServiceList{}
	default:
		return &appsv1.Deployment{}, &appsv1.DeploymentList{}
	}
}

// group is the REST client of the kind's API group. It speaks protobuf, which the API server
// writes and this side reads several times faster than JSON, managed fields above all.
func (c *client) group(k kind) rest.Interface {
	switch k.resource().Group {
	case "apps":
		return c.typed.AppsV1().RESTClient()
	case "rbac.authorization.k8s.io":
		return c.typed.RbacV1().RESTClient()
	default:
		return c.typed.CoreV1().RESTClient()
	}
}

// get reads one object as its own type.
func (c *client) get(ctx context.Context, k kind, namespace, name string) (runtime.Object, error) {
	object, _ := k.new()
	err := c.group(k).Get().NamespaceIfScoped(namespace, k != kindNamespace).Resource(k.resource().Resource).
		Name(name).Do(ctx).Into(object)
	return object, err
}

// pages lists the kind in a namespace and calls each with every page's objects.
func (c *client) pages(ctx context.Context, k kind, namespace string, each func([]runtime.Object) error) error {
	options := metav1.ListOptions{Limit: pageSize}
	for {
		_, list := k.new()
		err := c.group(k).Get().Namespace(namespace).Resource(k.resource().Resource).
			VersionedParams(&options, scheme.ParameterCodec).Do(ctx).Into(list)
		if err != nil {
			return explain(fmt.Sprintf("list %s objects in %s", k, namespace), err)
		}
		items, err := meta.ExtractList(list)
		if err != nil {
			return err
		}
		if err := each(items); err != nil {
			return err
		}
		next, err := meta.ListAccessor(list)
		if err != nil {
			return err
		}
		if options.Continue = next.GetContinue(); options.Continue == "" {
			return nil
		}
	}
}

// typed gives the object as its own type, whichever way it was read.
func typed(k kind, object runtime.Object) (runtime.Object, error) {
	item, ok := object.(*unstructured.Unstructured)
	if !ok {
		return object, nil
	}
	out, _ := k.new()
	err := runtime.DefaultUnstructuredConverter.FromUnstructured(item.Object, out)
	return out, err
}
