package source

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
)

// foundRef is a ref as advertised.
type foundRef struct {
	revision Revision      // the commit
	want     plumbing.Hash // what to ask for: the tag object of an annotated tag, else the commit
}

// noRefError says that the repository has no such ref, and which it has.
type noRefError struct {
	ref  string
	near []string
}

func (e *noRefError) Error() string { return fmt.Sprintf("no branch or tag %q", e.ref) }

// resolve finds a ref by its full name, as a branch, or as a tag, in this order.
func resolve(refs *packp.AdvRefs, ref string) (foundRef, error) {
	for _, name := range []string{ref, "refs/heads/" + ref, "refs/tags/" + ref} {
		if !strings.HasPrefix(name, "refs/") {
			continue
		}
		hash, ok := refs.References[name]
		if !ok {
			continue
		}
		found := foundRef{Revision{Hash: hash.String(), Ref: name}, hash}
		if peeled, ok := refs.Peeled[name]; ok {
			found.revision.Hash = peeled.String()
		}
		return found, nil
	}
	return foundRef{}, &noRefError{ref, nearest(refs, ref)}
}

// maxNear is how many other names an error lists.
const maxNear = 5

// nearest lists the branches and tags whose names are most like ref, branches first among equals.
func nearest(refs *packp.AdvRefs, ref string) []string {
	type candidate struct {
		name     string
		distance int
		tag      bool
	}
	var all []candidate
	short := strings.TrimPrefix(strings.TrimPrefix(ref, "refs/heads/"), "refs/tags/")
	for full := range refs.References {
		name, isBranch := strings.CutPrefix(full, "refs/heads/")
		if !isBranch {
			var isTag bool
			if name, isTag = strings.CutPrefix(full, "refs/tags/"); !isTag {
				continue
			}
		}
		d := distance(strings.ToLower(name), strings.ToLower(short))
		if short != "" && strings.Contains(strings.ToLower(name), strings.ToLower(short)) {
			d = 1
		}
		all = append(all, candidate{name, d, !isBranch})
	}
	slices.SortFunc(all, func(a, b candidate) int {
		if a.tag != b.tag && a.distance == b.distance {
			if a.tag {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.name, b.name))
	})
	var names []string
	for _, c := range all[:min(len(all), maxNear)] {
		names = append(names, c.name)
	}
	return names
}

// distance is Levenshtein's, in bytes; long names are cut, for they are only being suggested.
func distance(a, b string) int {
	a, b = a[:min(len(a), 64)], b[:min(len(b), 64)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j]+1, row[j+1]+1, diagonal+cost)
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
