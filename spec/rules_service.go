package spec

import (
	"fmt"
	"strings"
)

const latestHint = "name a version, the same file must always mean the same model: amlaks models shows which is the latest"

func (d *document) checkService(s *Service, at string, clusters []Cluster, files *files) {
	d.checkServiceCluster(s, at, clusters)
	d.checkScale(s, at)
	d.checkResources(&s.Resources, at+".resources")
	d.checkToken(s, at)
	for _, name := range sortedKeys(s.Tags) {
		d.checkTagName(childField(at+".tags", name), name)
	}
	d.checkModels(s.Models, at+".models", files)
	if d.written(at + ".inference") {
		d.checkInference(&s.Inference, at+".inference", files)
	}
	d.checkVersions(s, at, files)
}

func (d *document) checkServiceCluster(s *Service, at string, clusters []Cluster) {
	var known []string
	for _, c := range clusters {
		if c.Name == s.Cluster {
			d.checkAccelerators(s, at, c)
			return
		}
		if c.Name == "" {
			return // its name cannot be read, and may be the one that is meant
		}
		known = append(known, c.Name)
	}
	if s.Cluster == "" || d.broken("clusters") {
		return
	}
	hint := ""
	if near := nearest(s.Cluster, known); near != "" {
		hint = fmt.Sprintf("did you mean %s?", near)
	} else if len(known) > 0 && len(known) <= 10 {
		hint = "there is " + strings.Join(known, ", ")
	}
	d.failf(at+".cluster", hint, "no cluster is named %s", s.Cluster)
}

// checkAccelerators wants nodes with GPUs or FPGAs for a service that asks for
// them. Of an attached cluster, and of sizes unknown here, nothing can be said.
func (d *document) checkAccelerators(s *Service, at string, c Cluster) {
	if c.Attach != nil {
		return
	}
	gpu, fpga := 0, 0
	for _, name := range append([]string{c.VMSize}, names(c.NodePools, func(p NodePool) string { return p.VMSize })...) {
		size, ok := VMSize(name)
		if !ok {
			return
		}
		gpu, fpga = max(gpu, size.GPU), max(fpga, size.FPGA)
	}
	if s.Resources.GPU > gpu {
		d.failf(at+".resources.gpu", "give the cluster a nodePools entry such as Standard_NC4as_T4_v3",
			"needs a node with %d GPUs, and those of cluster %s have %d at most", s.Resources.GPU, c.Name, gpu)
	}
	if s.Resources.FPGA > fpga {
		d.failf(at+".resources.fpga", "", "needs a node with %d FPGAs, and those of cluster %s have %d at most", s.Resources.FPGA, c.Name, fpga)
	}
}

func (d *document) checkScale(s *Service, at string) {
	d.excludes(at+".numReplicas", at+".autoScaler", "it is either a fixed number or a range")
	if a := s.AutoScaler; a != nil && a.MinReplicas > a.MaxReplicas {
		field := at + ".autoScaler.minReplicas"
		if !d.written(field) {
			field = at + ".autoScaler.maxReplicas"
		}
		d.failf(field, "", "minReplicas, %d, is more than maxReplicas, %d", a.MinReplicas, a.MaxReplicas)
	}
}

func (d *document) checkResources(r *Resources, at string) {
	if r.CPULimit != nil && *r.CPULimit < r.CPU {
		d.failf(at+".cpuLimit", "", "must be at least cpu, %v", r.CPU)
	}
	if r.MemoryInGBLimit != nil && *r.MemoryInGBLimit < r.MemoryInGB {
		d.failf(at+".memoryInGBLimit", "", "must be at least memoryInGB, %v", r.MemoryInGB)
	}
}

func (d *document) checkToken(s *Service, at string) {
	if d.broken(at + ".authMode") {
		return
	}
	if s.AuthMode != AuthToken {
		if d.written(at + ".token") {
			d.failf(at+".token", "", "is only for authMode token, and this is %s", s.AuthMode)
		}
		return
	}
	if s.Token == nil || d.broken(at+".token.issuer") {
		return
	}
	entra := d.written(at + ".token.entra")
	switch {
	case s.Token.Issuer == IssuerEntra && !entra:
		d.fail(at+".token.entra", "is required with issuer entra: tenantId and audience", "")
	case s.Token.Issuer != IssuerEntra && entra:
		d.fail(at+".token.entra", "is only for issuer entra", "write issuer: entra beside it")
	}
}

func (d *document) checkModels(models []Model, at string, files *files) {
	first := make(map[Model]int)
	for i, m := range models {
		field := fmt.Sprintf("%s[%d]", at, i)
		versionField := field
		if d.written(field + ".version") {
			versionField += ".version"
		}
		if strings.EqualFold(m.Version, latest) {
			d.fail(versionField, "latest is not a version", latestHint)
		}
		d.excludes(field+".path", field+".registry", "a model is either of a registry or beside the file")
		if m.Path != "" {
			d.checkPath(field+".path", m.Path, files, anyFile)
		}
		key := Model{Name: m.Name, Version: m.Version}
		if j, ok := first[key]; ok && m.Name != "" {
			d.failf(field, "", "%s:%s is %s[%d] already", m.Name, m.Version, lastStep(at), j)
		}
		first[key] = i
	}
}

// ownVariables are set by amlaks for the server in the container.
var ownVariables = []string{"AML_APP_ROOT", "AZUREML_ENTRY_SCRIPT", "AZUREML_MODEL_DIR"}

func (d *document) checkInference(inf *Inference, at string, files *files) {
	if inf.SourceDirectory != "" {
		d.checkPath(at+".sourceDirectory", inf.SourceDirectory, files, folder)
	}
	if inf.EntryScript != "" {
		d.checkEntryScript(inf, at, files)
	}
	if inf.Requirements != "" {
		d.checkPath(at+".requirements", inf.Requirements, files, regularFile)
	}
	if inf.BaseImage == ScratchImage && !d.written(at+".command") {
		d.fail(at+".command", "is required with baseImage scratch, which has nothing to run", "")
	}
	for _, name := range sortedKeys(inf.EnvironmentVariables) {
		field := childField(at+".environmentVariables", name)
		if _, ok := inf.Secrets[name]; ok {
			d.fail(field, "is among the secrets too", "")
		}
		d.checkOwnVariable(field, name)
	}
	for _, name := range sortedKeys(inf.Secrets) {
		d.checkOwnVariable(childField(at+".secrets", name), name)
	}
}

func (d *document) checkOwnVariable(field, name string) {
	for _, own := range ownVariables {
		if name == own {
			d.fail(field, "is set by amlaks", "")
		}
	}
}

func (d *document) checkVersions(s *Service, at string, files *files) {
	if len(s.Versions) == 0 {
		if !d.written(at + ".inference") {
			d.fail(at+".inference", "is required", "")
		}
		return
	}
	d.unique(at+".versions", ".name", names(s.Versions, func(v Version) string { return v.Name }))
	sum, over, defaultAt := 0.0, "", ""
	for i, v := range s.Versions {
		field := fmt.Sprintf("%s.versions[%d]", at, i)
		d.checkModels(v.Models, field+".models", files)
		if v.Inference != nil {
			d.checkInference(v.Inference, field+".inference", files)
		} else if !d.written(at+".inference") && !d.written(field+".inference") {
			d.fail(field+".inference", "is required: the service has none either", "")
		}
		if v.IsDefault {
			if defaultAt != "" {
				d.failf(field+".isDefault", "", "%s is the default already", defaultAt)
			} else {
				defaultAt = fmt.Sprintf("versions[%d]", i)
			}
		}
		sum += v.TrafficPercentile
		if sum > 100+percentSlack && over == "" {
			over = field + ".trafficPercentile"
		}
	}
	if over != "" {
		d.failf(over, "the default version takes what the others leave", "the versions' trafficPercentile add up to %v, more than 100", sum)
	}
}

// percentSlack lets 33.3 + 33.3 + 33.4 be 100 in binary fractions.
const percentSlack = 1e-9
