package spec

import "testing"

// TestPathsDiagnostics: the files that a stack names: they must be there, and inside its folder.
func TestPathsDiagnostics(t *testing.T) {
	runDiagnosticCases(t, []diagnosticCase{
		{"all there", "      command", `      sourceDirectory: ./score
      entryScript: score.py
      requirements: pylock.toml
      command`, `
amlaks.yaml:16:7: warning: services[0].inference.requirements: this version does not install Python packages yet: the base image must hold them
   16 |       requirements: pylock.toml
      |                     ^
`},
		{"not there", "      command", `      sourceDirectory: scores
      requirements: lock/pylock.toml
      command`, `
amlaks.yaml:14:7: services[0].inference.sourceDirectory: scores does not exist
   14 |       sourceDirectory: scores
      |                        ^
      = hint: paths are relative to the file
amlaks.yaml:15:7: services[0].inference.requirements: lock/pylock.toml does not exist
   15 |       requirements: lock/pylock.toml
      |                     ^
      = hint: paths are relative to the file
`},
		{"script not there", "      command", `      sourceDirectory: score
      entryScript: sub/score.py
      command`, `
amlaks.yaml:15:7: services[0].inference.entryScript: score/sub/score.py does not exist
   15 |       entryScript: sub/score.py
      |                    ^
      = hint: paths are relative to the file
`},
		{"not of the kind", "      command", `      sourceDirectory: pylock.toml
      requirements: folder.txt
      command`, `
amlaks.yaml:14:7: services[0].inference.sourceDirectory: pylock.toml is not a folder
   14 |       sourceDirectory: pylock.toml
      |                        ^
amlaks.yaml:15:7: services[0].inference.requirements: folder.txt is not a file
   15 |       requirements: folder.txt
      |                     ^
`},
		{"absolute", "      command", `      sourceDirectory: /srv/score
      command`, `
amlaks.yaml:14:7: services[0].inference.sourceDirectory: must be a relative path that stays in the folder of this file
   14 |       sourceDirectory: /srv/score
      |                        ^
`},
		{"leaves the folder", "      command", `      sourceDirectory: ../score
      requirements: score/../../pylock.toml
      command`, `
amlaks.yaml:14:7: services[0].inference.sourceDirectory: must be a relative path that stays in the folder of this file
   14 |       sourceDirectory: ../score
      |                        ^
amlaks.yaml:15:7: services[0].inference.requirements: must be a relative path that stays in the folder of this file
   15 |       requirements: score/../../pylock.toml
      |                     ^
`},
		{"a link leaves the folder", "      command", `      sourceDirectory: out
      command`, `
amlaks.yaml:14:7: services[0].inference.sourceDirectory: out cannot be read: path escapes from parent
   14 |       sourceDirectory: out
      |                        ^
`},
		{"backslash", "      command", `      sourceDirectory: .\score
      command`, `
amlaks.yaml:14:7: services[0].inference.sourceDirectory: must be written with / and not with \
   14 |       sourceDirectory: .\score
      |                        ^
`},
		{"script without source", "      command", `      entryScript: score.py
      command`, `
amlaks.yaml:14:7: services[0].inference.entryScript: needs sourceDirectory beside it, the folder it is in
   14 |       entryScript: score.py
      |                    ^
`},
		{"script leaves its folder", "      command", `      sourceDirectory: score
      entryScript: ../score/score.py
      command`, `
amlaks.yaml:15:7: services[0].inference.entryScript: must be a relative path that stays in sourceDirectory
   15 |       entryScript: ../score/score.py
      |                    ^
`},
		{"script is not Python", "      command", `      sourceDirectory: score
      entryScript: score.sh
      command`, `
amlaks.yaml:15:7: services[0].inference.entryScript: must be a Python file whose name can be imported: letters, digits and _, then .py
   15 |       entryScript: score.sh
      |                    ^
`},
		{"script cannot be imported", "      command", `      sourceDirectory: score
      entryScript: my-score.py
      command`, `
amlaks.yaml:15:7: services[0].inference.entryScript: must be a Python file whose name can be imported: letters, digits and _, then .py
   15 |       entryScript: my-score.py
      |                    ^
`},
		{"requirements are of no known form", "      command", `      requirements: environment.yml
      command`, `
amlaks.yaml:14:7: services[0].inference.requirements: must be a pylock.toml, or a requirements file that ends in .txt
   14 |       requirements: environment.yml
      |                     ^
`},
		{"model path", "models: [churn:3]", "models: [{name: a, version: 1, path: model}, {name: b, version: 1, path: nothing}, {name: c, version: 1, path: ~/m}]", `
amlaks.yaml:11:72: services[0].models[1].path: nothing does not exist
   11 |     models: [{name: a, version: 1, path: model}, {name: b, version: 1, path: nothing}, {name: c, version: 1, path: ~/m}]
      |                                                                              ^
      = hint: paths are relative to the file
amlaks.yaml:11:110: services[0].models[2].path: ~/m does not exist
   11 |     models: [{name: a, version: 1, path: model}, {name: b, version: 1, path: nothing}, {name: c, version: 1, path: ~/m}]
      |                                                                                                                    ^
      = hint: paths are relative to the file
`},
	})
}
