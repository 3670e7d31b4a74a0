package model

import (
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/amlaks/amlaks/reconcile"
)

// scope is a workspace.
type scope struct{ subscription, group, workspace string }

func (s scope) id() string {
	return "/subscriptions/" + s.subscription + "/resourceGroups/" + s.group +
		"/providers/Microsoft.MachineLearningServices/workspaces/" + s.workspace
}

// place is what a model URI says, before anybody is asked. Exactly one of datastore, run,
// registry and container is set.
type place struct {
	scope     scope  // of datastore and run; zero: the workspace that the URI came from
	datastore string // with path
	run       string // a job, with output and path
	output    string // "" for runs:/, which has one folder of artifacts
	registry  string // with name and version
	container string // URL, with path

	path          string // of a blob or a folder of blobs; "" of a job's output means all of it
	name, version string
}

// scheme is that of the URIs that Azure ML gives out.
const scheme = "azureml://"

// parseURI reads the forms of model URIs that azure-ai-ml writes and Resource Manager gives
// out. Segments before the path are compared as ARM does, in any case.
func parseURI(uri string) (place, error) {
	switch {
	case strings.HasPrefix(uri, scheme):
		if p, ok := parseAzureML(strings.TrimPrefix(uri, scheme)); ok {
			return p, nil
		}
	case strings.HasPrefix(uri, "runs:/"):
		// MLflow's: runs:/RUN/PATH.
		run, path, _ := strings.Cut(strings.TrimLeft(strings.TrimPrefix(uri, "runs:"), "/"), "/")
		if path = clean(path); run != "" && path != "" {
			return place{run: run, path: path}, nil
		}
	default:
		if p, ok := parseBlobURL(uri); ok {
			return p, nil
		}
	}
	return place{}, &reconcile.Failure{
		Reason: reconcile.ReasonNotFound,
		Err:    fmt.Errorf("its URI %s is of a form that cannot be read here", withoutQuery(uri)),
		Hint: "forms that can: azureml://.../datastores/NAME/paths/PATH, azureml://jobs/JOB/outputs/NAME/paths/PATH, runs:/RUN/PATH, " +
			"azureml://registries/NAME/models/MODEL/versions/VERSION, and https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH without a signature",
	}
}

func parseAzureML(rest string) (place, bool) {
	parts := strings.Split(rest, "/")
	take := func(word string) (string, bool) {
		if len(parts) < 2 || !strings.EqualFold(parts[0], word) || parts[1] == "" {
			return "", false
		}
		value := parts[1]
		parts = parts[2:]
		return value, true
	}
	var p place
	if subscription, ok := take("subscriptions"); ok {
		group, hasGroup := take("resourcegroups")
		take("providers") // as an ARM ID would have it
		workspace, hasWorkspace := take("workspaces")
		if !hasGroup || !hasWorkspace {
			return place{}, false
		}
		p.scope = scope{subscription, group, workspace}
	}
	var named bool
	if p.datastore, named = take("datastores"); named {
		// The path of a job's own artifacts comes without this word.
		if len(parts) > 0 && strings.EqualFold(parts[0], "paths") {
			parts = parts[1:]
		}
		p.path = clean(strings.Join(parts, "/"))
		return p, p.path != ""
	}
	if p.run, named = take("jobs"); named {
		if p.output, named = take("outputs"); !named {
			return place{}, false
		}
		if len(parts) > 0 && !strings.EqualFold(parts[0], "paths") {
			return place{}, len(parts) == 1 && parts[0] == ""
		}
		p.path = clean(strings.Join(parts[min(1, len(parts)):], "/"))
		return p, true
	}
	if p.registry, named = take("registries"); named {
		var isModel, hasVersion bool
		p.name, isModel = take("models")
		p.version, hasVersion = take("versions")
		return p, isModel && hasVersion && len(parts) == 0
	}
	return place{}, false
}

// clean takes away the slashes around a path; those of people end with one, for a folder.
func clean(path string) string { return strings.Trim(path, "/") }

func parseBlobURL(uri string) (place, bool) {
	p, ok := parseContainerURL(uri)
	return p, ok && p.path != ""
}

// parseContainerURL reads the URL of a blob, or of a whole container.
func parseContainerURL(uri string) (place, bool) {
	u, err := url.Parse(uri)
	if err != nil || u.User != nil || u.RawQuery != "" || u.Scheme != "https" && !(u.Scheme == "http" && reconcile.IsLoopback(u.Hostname())) {
		return place{}, false
	}
	container, path, ok := splitBlobURL(u)
	return place{container: container, path: path}, ok
}

// splitBlobURL gives the URL of a blob's container, and the blob's name; "" for the container.
func splitBlobURL(u *url.URL) (container, path string, ok bool) {
	segments := 1 // account.blob.core.windows.net/CONTAINER/path
	if net.ParseIP(u.Hostname()) != nil {
		segments = 2 // 127.0.0.1:10000/ACCOUNT/CONTAINER/path, as azblob itself reads an IP address
	}
	parts := strings.SplitN(strings.TrimPrefix(u.Path, "/"), "/", segments+1)
	if len(parts) < segments || parts[segments-1] == "" {
		return "", "", false
	}
	return u.Scheme + "://" + u.Host + "/" + strings.Join(parts[:segments], "/"), clean(strings.Join(parts[segments:], "/")), true
}

// withoutQuery takes a signature, if there is one, out of what is shown.
func withoutQuery(uri string) string {
	shown, _, signed := strings.Cut(uri, "?")
	if signed {
		shown += "?..."
	}
	if scheme, rest, ok := strings.Cut(shown, "://"); ok {
		if i := strings.LastIndexByte(strings.SplitN(rest, "/", 2)[0], '@'); i >= 0 {
			shown = scheme + "://" + rest[i+1:]
		}
	}
	return shown
}
