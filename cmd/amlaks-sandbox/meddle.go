package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// meddling is what somebody with kubectl does behind amlaks' back.
type meddling struct {
	cluster, resourceGroup, namespace string
	scale, remove                     string
}

func meddle(f *folder) *cobra.Command {
	var m meddling
	command := &cobra.Command{
		Use:   "meddle --dir DIR --cluster NAME --namespace NAMESPACE",
		Short: "Scale or delete a Deployment, as somebody with kubectl would",
		Example: `  amlaks-sandbox meddle --dir DIR --cluster demo --namespace amlaks-wine --scale wine=5
  amlaks-sandbox meddle --dir DIR --cluster demo --namespace amlaks-wine --delete wine`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error { return m.run(command.Context(), f) },
	}
	command.Flags().StringVar(&m.cluster, "cluster", "", "the AKS cluster (required)")
	command.Flags().StringVar(&m.resourceGroup, "resource-group", sandbox.ResourceGroup, "its resource group")
	command.Flags().StringVar(&m.namespace, "namespace", "", "the Deployment's namespace (required)")
	command.Flags().StringVar(&m.scale, "scale", "", "DEPLOYMENT=REPLICAS")
	command.Flags().StringVar(&m.remove, "delete", "", "DEPLOYMENT")
	_ = command.MarkFlagRequired("cluster") // the flags are there
	_ = command.MarkFlagRequired("namespace")
	return command
}

func (m *meddling) run(ctx context.Context, f *folder) error {
	kubeconfig, err := os.ReadFile(f.path(filepath.Join("clusters", m.resourceGroup+"_"+m.cluster, "kubeconfig")))
	if err != nil {
		return fmt.Errorf("cluster %s: %w", m.cluster, err)
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	deployments := client.AppsV1().Deployments(m.namespace)
	switch {
	case m.remove != "":
		return deployments.Delete(ctx, m.remove, metav1.DeleteOptions{})
	case m.scale != "":
		name, number, _ := strings.Cut(m.scale, "=")
		replicas, err := strconv.ParseInt(number, 10, 32)
		if err != nil {
			return fmt.Errorf("--scale %s: it is DEPLOYMENT=REPLICAS", m.scale)
		}
		_, err = deployments.UpdateScale(ctx, name, &autoscalingv1.Scale{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: m.namespace},
			Spec:       autoscalingv1.ScaleSpec{Replicas: int32(replicas)},
		}, metav1.UpdateOptions{FieldManager: "kubectl"})
		return err
	}
	return errors.New("--scale or --delete says what to do")
}
