package spec

import (
	"regexp"
	"strconv"
	"strings"
)

const pemBegin = "-----BEGIN "

const (
	referenceHint = "keep it out of the file: write a reference, keyVault or files"
	secretsHint   = "move it to inference.secrets, which names a keyVault, env or file; and change it, as it has been written down"
)

// secretValue matches what is a secret whatever the field: credentials in the
// forms that Azure, GitHub, AWS, Slack and JWT give them, and URLs with a password.
var secretValue = []struct {
	what string
	re   *regexp.Regexp
}{
	{"a private key or certificate", regexp.MustCompile(regexp.QuoteMeta(pemBegin))},
	{"a connection string with a key", regexp.MustCompile(`(?i)\b(AccountKey|SharedAccessKey|SharedAccessSignature)\s*=\s*[A-Za-z0-9+/%]{16,}`)},
	{"a connection string with a password", regexp.MustCompile(`(?i)(^|;)\s*(password|pwd)\s*=\s*[^;\s]+`)},
	{"a shared access signature", regexp.MustCompile(`[?&]sig=[A-Za-z0-9%+/=]{20,}`)},
	{"a GitHub token", regexp.MustCompile(`\b(gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})`)},
	{"an AWS access key", regexp.MustCompile(`\bAKIA[0-9A-Z]{16}\b`)},
	{"a Slack token", regexp.MustCompile(`\bxox[abprs]-[A-Za-z0-9-]{10,}`)},
	{"a token (JWT)", regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.`)},
	{"a URL with a password", regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s:@]+:[^/\s@]+@`)},
}

// Names of environment variables that hold secrets. With a strong name any
// value counts but none, a number, a boolean, or an absolute path. A weak name
// is common for other things too (PARTITION_KEY, MAX_TOKEN), so its value must
// be of 8 characters or more, of one word, and not a name in lower case
// (customer_id, bert-base): keys that look like that are let through.
var (
	strongName = regexp.MustCompile(`(?i)(^|_)(password|passwd|pwd|secret|client_?secret|access_?key|account_?key|api_?key|sas_?token|connection_?string)$`)
	weakName   = regexp.MustCompile(`(?i)(_key|token|credentials?|_sas)$`)
	plainName  = regexp.MustCompile(`^[a-z]+([-_./:][a-z]+)*$`)
)

// findSecrets reports values that must not stand in a file that is committed,
// and keeps them out of the excerpts of all diagnostics.
func (d *document) findSecrets() {
	for _, s := range d.order {
		value, ok := s.data.(string)
		if !ok || value == "" {
			continue
		}
		for _, pattern := range secretValue {
			if pattern.re.MatchString(value) {
				d.mask(s)
				hint := secretsHint
				if strings.Contains(s.field, ".ssl.") {
					hint = referenceHint
				}
				d.fail(s.field, "holds "+pattern.what, hint)
				break
			}
		}
		if strings.HasSuffix(parentField(s.field), ".environmentVariables") && looksSecret(s.name, value) {
			d.mask(s)
			d.fail(s.field, "looks like a secret, by its name", secretsHint)
		}
	}
	for i, line := range d.lines {
		if at := strings.IndexByte(line, '#'); at >= 0 && strings.Contains(line[at:], pemBegin) && d.secret[i+1] == 0 {
			d.secret[i+1] = at + 1
			d.failAt(i+1, at+1, "", "holds a private key or certificate, in a comment", "take it out; and change it, as it has been written down")
		}
	}
}

func looksSecret(name, value string) bool {
	if _, err := strconv.ParseFloat(value, 64); err == nil || strings.HasPrefix(value, "/") {
		return false
	}
	if _, err := strconv.ParseBool(value); err == nil {
		return false
	}
	if strongName.MatchString(name) {
		return true
	}
	return weakName.MatchString(name) && len(value) >= 8 && !strings.ContainsAny(value, " \t\n") && !plainName.MatchString(value)
}

// mask hides the lines of a value.
func (d *document) mask(s *site) {
	last := s.value.Line + strings.Count(s.value.Value, "\n") + 1
	d.secret[s.value.Line] = s.value.Column
	for line := s.value.Line + 1; line <= last; line++ {
		if next, ok := d.next(s); ok && line >= next {
			return
		}
		d.secret[line] = 1
	}
}

// next is the line on which the first key after s stands.
func (d *document) next(s *site) (int, bool) {
	for _, other := range d.order {
		line, _, _ := other.position()
		if line > s.value.Line {
			return line, true
		}
	}
	return 0, false
}
