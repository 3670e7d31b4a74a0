package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/kube"
	"github.com/amlaks/amlaks/spec"
)

const (
	maxRequest  = 100 << 20 // what the front end takes
	maxResponse = 100 << 20
	// slack is added to the service's own timeout for the way there and back.
	slack = 10 * time.Second
)

func (a *app) scoreCommand() *cobra.Command {
	var data, deployment string
	var anonymous bool
	cmd := &cobra.Command{
		Use:   "score SERVICE --data DATA",
		Short: "Send a scoring request, with the service's own key or token",
		Long: `score sends data to the service as its clients do and prints the answer. DATA is the
body itself, @FILE, or - for standard input. A status of 400 or more is printed to
stderr and exits 1. It connects to the front end's own address, before DNS leads there too.
With ssl it trusts the certificate that was applied, and those of public issuers.`,
		Example: `  amlaks score churn --data @request.json
  echo '{"data": [[1, 2]]}' | amlaks score churn --data -`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.score(cmd.Context(), args[0], data, deployment, anonymous)
		},
	}
	cmd.Flags().StringVarP(&data, "data", "d", "", "the body, @FILE, or -")
	cmd.Flags().StringVar(&deployment, "version", "", "score this version, whatever the traffic split says")
	cmd.Flags().BoolVar(&anonymous, "no-auth", false, "send no key and no token, to see that they are asked for")
	// MarkFlagRequired fails only for a flag that does not exist.
	_ = cmd.MarkFlagRequired("data")
	return cmd
}

func (a *app) score(ctx context.Context, name, data, deployment string, anonymous bool) error {
	body, err := a.requestBody(data)
	if err != nil {
		return err
	}
	service, cluster, err := a.service(ctx, name, false)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(service.ScoringTimeoutMs+service.MaxQueueWaitMs)*time.Millisecond+slack)
	defer cancel()
	response, err := atFrontEnd(ctx, cluster, func(e kube.Endpoint) (*http.Request, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, scoringURI(e.Address, name), bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		request.Header.Set("Content-Type", "application/json")
		if deployment != "" {
			request.Header.Set("azureml-model-deployment", deployment)
		}
		if anonymous {
			return request, nil
		}
		return request, authorize(ctx, request, service, cluster)
	})
	if reconcile.ReasonOf(err) != "" {
		return err
	}
	if err != nil {
		return &reconcile.Failure{Reason: reconcile.ReasonUnavailable, Err: fmt.Errorf("score %s: %w", name, err), Hint: "may this machine reach the front end's address?"}
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxResponse))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if response.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("score %s: HTTP %s: %s", name, response.Status, strings.TrimSpace(string(answer)))
	}
	fmt.Fprintln(a.out, strings.TrimSuffix(string(answer), "\n"))
	return nil
}

func authorize(ctx context.Context, request *http.Request, service *spec.Service, cluster *kube.Cluster) error {
	bearer := ""
	switch service.AuthMode {
	case spec.AuthKey:
		keys, err := cluster.Keys(ctx, service.Name)
		if err != nil {
			return err
		}
		bearer = keys.Primary
	case spec.AuthToken:
		token, err := cluster.Token(ctx, service.Name)
		if err != nil {
			return err
		}
		bearer = token.AccessToken
	default:
		return nil
	}
	request.Header.Set("Authorization", "Bearer "+bearer)
	return nil
}

func (a *app) requestBody(data string) ([]byte, error) {
	source := a.in
	switch {
	case data == "":
		return nil, usageError{errors.New("--data is empty")}
	case strings.HasPrefix(data, "@"):
		file, err := os.Open(data[1:])
		if err != nil {
			return nil, fmt.Errorf("--data: %w", err)
		}
		defer file.Close()
		source = file
	case data != "-":
		return []byte(data), nil
	}
	body, err := io.ReadAll(io.LimitReader(source, maxRequest+1))
	if err == nil && len(body) > maxRequest {
		err = fmt.Errorf("it is larger than %d MB, the most that a front end takes", maxRequest>>20)
	}
	if err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	return body, nil
}
