package spec

import (
	"fmt"
	"strings"
)

// checkRules reports what no schema can say: rules between fields, and files.
// It runs on a stack with its defaults even when there are errors already;
// a field that has one gets no second.
func (d *document) checkRules(s *Stack) {
	if len(s.Clusters)+len(s.Services) == 0 && !d.broken("clusters") && !d.broken("services") {
		d.fail("", "declares no clusters and no services", "an empty stack would delete everything; that is what amlaks destroy is for")
	}
	if d.errors > maxErrors || d.broken("clusters") || d.broken("services") {
		return
	}
	d.checkWorkspace(&s.Workspace)
	for i := range s.Clusters {
		d.checkCluster(&s.Clusters[i], fmt.Sprintf("clusters[%d]", i))
	}
	d.checkAttachedOnce(s.Clusters)
	d.unique("clusters", ".name", names(s.Clusters, func(c Cluster) string { return c.Name }))

	files := openFiles(s.Dir)
	defer files.close()
	for i := range s.Services {
		d.checkService(&s.Services[i], fmt.Sprintf("services[%d]", i), s.Clusters, files)
	}
	d.unique("services", ".name", names(s.Services, func(s Service) string { return s.Name }))
	d.checkVaults(s)
	d.warnPending()
}

// failf is fail with a formatted message.
func (d *document) failf(field, hint, format string, args ...any) {
	d.fail(field, fmt.Sprintf(format, args...), hint)
}

// unique reports the second of two equal names; Azure and DNS know no case.
func (d *document) unique(list, suffix string, names []string) {
	first := make(map[string]int, len(names))
	for i, name := range names {
		if name == "" {
			continue // missing, and reported as that
		}
		key := strings.ToLower(name)
		if j, ok := first[key]; ok {
			d.failf(fmt.Sprintf("%s[%d]%s", list, i, suffix), "", "%s is the name of %s[%d] already", name, list, j)
			continue
		}
		first[key] = i
	}
}

func names[T any](items []T, name func(T) string) []string {
	out := make([]string, len(items))
	for i, item := range items {
		out[i] = name(item)
	}
	return out
}

// excludes reports a field that stands beside another one that rules it out.
func (d *document) excludes(field, other, why string) {
	if d.written(field) && d.written(other) {
		d.failf(field, "", "cannot stand beside %s: %s", lastStep(other), why)
	}
}

// lastStep is the last key of a path.
func lastStep(field string) string {
	return field[strings.LastIndexByte(field, '.')+1:]
}
