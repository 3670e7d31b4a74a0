package spec

import "testing"

// TestSecretsDiagnostics: that secrets are refused, and never repeated.
func TestSecretsDiagnostics(t *testing.T) {
	runDiagnosticCases(t, []diagnosticCase{
		{"by name", "      command", `      environmentVariables:
        DB_PASSWORD: hunter2
        API_KEY: 4f9d8a77b1c2
        STORE_TOKEN: abcd1234efgh
        PASSWORD: correct horse
      command`, `
amlaks.yaml:15:9: services[0].inference.environmentVariables.DB_PASSWORD: looks like a secret, by its name
   15 |         DB_PASSWORD: ***
      |                      ^
      = hint: move it to inference.secrets, which names a keyVault, env or file; and change it, as it has been written down
amlaks.yaml:16:9: services[0].inference.environmentVariables.API_KEY: looks like a secret, by its name
   16 |         API_KEY: ***
      |                  ^
      = hint: move it to inference.secrets, which names a keyVault, env or file; and change it, as it has been written down
amlaks.yaml:17:9: services[0].inference.environmentVariables.STORE_TOKEN: looks like a secret, by its name
   17 |         STORE_TOKEN: ***
      |                      ^
      = hint: move it to inference.secrets, which names a keyVault, env or file; and change it, as it has been written down
amlaks.yaml:18:9: services[0].inference.environmentVariables.PASSWORD: looks like a secret, by its name
   18 |         PASSWORD: ***
      |                   ^
      = hint: move it to inference.secrets, which names a keyVault, env or file; and change it, as it has been written down
`},
		{"by name, but no secret", "      command", `      environmentVariables:
        PARTITION_KEY: customer_id
        MAX_TOKEN: "512"
        USE_TOKEN: "true"
        DB_PASSWORD: ""
        DB_PASSWORD_FILE: /run/secrets/db
        SSL_KEY: /etc/ssl/key
        SORT_KEY: id
        KEYBOARD: qwertyuiop12
        MONKEY: gorilla12345
        TOKENIZER: bert-base-uncased
      command`, ``},
		{"by value", "      command", `      environmentVariables:
        A: DefaultEndpointsProtocol=https;AccountName=a;AccountKey=abcdefghijklmnopqrstuvwxyz0123456789==
        B: https://a.blob.core.windows.net/c?sv=2024-01-01&sig=abcdefghijklmnopqrstuvwxyz%3D
        C: postgres://me:pass1234@db/x
        D: Server=db;User=a;Password=x1y2z3
        E: eyJhbGciOiJIUzI1NiIsInR5cCI6.eyJzdWIiOiIxMjM0NTY3ODkw.sig
      command`, `
amlaks.yaml:15:9: services[0].inference.environmentVariables.A: holds a connection string with a key
   15 |         A: ***
      |            ^
      = hint: move it to inference.secrets, which names a keyVault, env or file; and change it, as it has been written down
amlaks.yaml:16:9: services[0].inference.environmentVariables.B: holds a shared access signature
   16 |         B: ***
      |            ^
      = hint: move it to inference.secrets, which names a keyVault, env or file; and change it, as it has been written down
amlaks.yaml:17:9: services[0].inference.environmentVariables.C: holds a URL with a password
   17 |         C: ***
      |            ^
      = hint: move it to inference.secrets, which names a keyVault, env or file; and change it, as it has been written down
amlaks.yaml:18:9: services[0].inference.environmentVariables.D: holds a connection string with a password
   18 |         D: ***
      |            ^
      = hint: move it to inference.secrets, which names a keyVault, env or file; and change it, as it has been written down
amlaks.yaml:19:9: services[0].inference.environmentVariables.E: holds a token (JWT)
   19 |         E: ***
      |            ^
      = hint: move it to inference.secrets, which names a keyVault, env or file; and change it, as it has been written down
`},
		{"a key, never shown", "      command", `      environmentVariables:
        A: |
          -----BEGIN PRIVATE KEY-----
          MIIabcd
        B: 4
      command`, `
amlaks.yaml:15:9: services[0].inference.environmentVariables.A: holds a private key or certificate
   15 |         A: ***
      |            ^
      = hint: move it to inference.secrets, which names a keyVault, env or file; and change it, as it has been written down
amlaks.yaml:18:9: services[0].inference.environmentVariables.B: must be a string, not a number
   18 |         B: 4
      |            ^
      = hint: write "4", in quotes
`},
		{"a key in a certificate", "    agentCount: 3", `    agentCount: 3
    ssl:
      cname: a.example.com
      certificate:
        keyVault: |
          -----BEGIN PRIVATE KEY-----
          MIIabcd`, `
amlaks.yaml:11:9: clusters[0].ssl.certificate.keyVault: holds a private key or certificate
   11 |         keyVault: ***
      |                   ^
      = hint: keep it out of the file: write a reference, keyVault or files
`},
		{"a key in a comment", "    agentCount: 3", "    agentCount: 2 # -----BEGIN PRIVATE KEY-----", `
amlaks.yaml:7:5: clusters[0].agentCount: 2 x Standard_D4ds_v5 is 8 vCPU, and purpose FastProd needs 12
    7 |     agentCount: 2 ***
      |                 ^
      = hint: raise agentCount, take a larger vmSize, or set purpose: DevTest
amlaks.yaml:7:19: holds a private key or certificate, in a comment
    7 |     agentCount: 2 ***
      |                   ^
      = hint: take it out; and change it, as it has been written down
`},
		{"a secret beside another fault", "      command", `      environmentVariables: {A_PASSWORD: hunter2, N: 4}
      command`, `
amlaks.yaml:14:30: services[0].inference.environmentVariables.A_PASSWORD: looks like a secret, by its name
   14 |       environmentVariables: {A_PASSWORD: ***
      |                                          ^
      = hint: move it to inference.secrets, which names a keyVault, env or file; and change it, as it has been written down
amlaks.yaml:14:51: services[0].inference.environmentVariables.N: must be a string, not a number
   14 |       environmentVariables: {A_PASSWORD: ***
      = hint: write "4", in quotes
`},
		{"a syntax error beside a secret", "      command: [./server]", "      environmentVariables: {A_PASSWORD: hunter2", `
amlaks.yaml:14:7: is not YAML: did not find expected ',' or '}'
   14 |       environmentVariables: {A_***
      |       ^
`},
	})
}
