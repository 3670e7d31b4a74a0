package pybase

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// loaderCache is a cache file with the given entries.
type loaderCache []struct {
	flags      uint32
	hwcap      uint64
	name, path string
}

func (c loaderCache) bytes() []byte {
	b := make([]byte, cacheHeaderSize, 1024)
	copy(b, cacheMagic)
	binary.LittleEndian.PutUint32(b[len(cacheMagic):], uint32(len(c)))
	stringsAt := cacheHeaderSize + len(c)*cacheEntrySize
	var text []byte
	for _, e := range c {
		b = binary.LittleEndian.AppendUint32(b, e.flags)
		b = binary.LittleEndian.AppendUint32(b, uint32(stringsAt+len(text)))
		text = append(append(text, e.name...), 0)
		b = binary.LittleEndian.AppendUint32(b, uint32(stringsAt+len(text)))
		text = append(append(text, e.path...), 0)
		b = binary.LittleEndian.AppendUint32(b, 0)
		b = binary.LittleEndian.AppendUint64(b, e.hwcap)
	}
	return append(b, text...)
}

func TestParseLoaderCache(t *testing.T) {
	cache := loaderCache{
		{0x0303, 1 << 62, "libz.so.1", "/lib/glibc-hwcaps/x86-64-v3/libz.so.1"},
		{0x0303, 0, "libz.so.1", "/lib/x86_64-linux-gnu/libz.so.1"},
		{0x0303, 0, "libz.so.1", "/usr/local/lib/libz.so.1"},
		{0x0003, 0, "libm.so.6", "/lib32/libm.so.6"},
		{0x0303, 0, "libm.so.6", "/lib/x86_64-linux-gnu/libm.so.6"},
	}.bytes()
	want := map[string]string{
		"libz.so.1": "/lib/x86_64-linux-gnu/libz.so.1",
		"libm.so.6": "/lib/x86_64-linux-gnu/libm.so.6",
	}
	// Alone, and behind the older table of the compatible format.
	for _, prefix := range []string{"", "ld.so-1.7.0\x00\x00\x00\x00\x00"} {
		got, err := parseLoaderCache(append([]byte(prefix), cache...))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("prefix %q (-want +got):\n%s", prefix, diff)
		}
	}
}

func TestParseLoaderCacheRefuses(t *testing.T) {
	whole := loaderCache{{0x0303, 0, "libz.so.1", "/lib/libz.so.1"}}.bytes()
	for name, test := range map[string]struct {
		data []byte
		want string
	}{
		"empty":         {nil, "not in the format"},
		"old only":      {[]byte("ld.so-1.7.0\x00"), "not in the format"},
		"cut header":    {whole[:cacheHeaderSize-1], "not in the format"},
		"cut entries":   {whole[:cacheHeaderSize+3], "1 entries do not fit in 51 bytes"},
		"cut strings":   {whole[:cacheHeaderSize+cacheEntrySize], "entry 0 points outside"},
		"open-end path": {whole[:len(whole)-1], "entry 0 points outside"},
	} {
		if _, err := parseLoaderCache(test.data); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}
