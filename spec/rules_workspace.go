package spec

import "strings"

// checkWorkspace reports what is missing to make a workspace.
func (d *document) checkWorkspace(w *Workspace) {
	const at = "workspace.create"
	if w.Create == nil || d.broken(at) {
		return
	}
	if w.Location == "" && !d.broken("workspace.location") {
		d.fail("workspace.location", "is required beside create: there may be no workspace yet to take the region from", "location: westeurope")
	}
	if w.Create.ContainerRegistry == "" && w.Registry == "" && !d.broken(at+".containerRegistry") && !d.broken("workspace.registry") {
		d.fail(at+".containerRegistry", "is required, unless workspace.registry says where scoring images go", "")
	}
	if strings.Contains(w.Create.KeyVault, "--") && !d.broken(at+".keyVault") {
		d.fail(at+".keyVault", "must not have two dashes in a row", "")
	}
}
