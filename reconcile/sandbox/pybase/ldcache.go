package pybase

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// The format of /etc/ld.so.cache, from glibc's sysdeps/generic/dl-cache.h: a header
// of 48 bytes, entries of 24, then the strings they point to, by offsets from the
// header's first byte. A cache in the compatible format has an older table before it.
const (
	cacheMagic      = "glibc-ld.so.cache1.1"
	cacheHeaderSize = 48
	cacheEntrySize  = 24
	maxCacheBytes   = 32 << 20

	// flagsX8664 marks libraries for x86-64 with the libc6 ABI.
	flagsX8664 = 0x0303
)

// readLoaderCache returns the path of each x86-64 library that ldconfig knows, by
// its name. Builds for particular processors (glibc-hwcaps) are passed over: the
// plain one runs everywhere.
func readLoaderCache(file string) (map[string]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read the loader's cache: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCacheBytes))
	if err != nil {
		return nil, fmt.Errorf("read the loader's cache: %w", err)
	}
	libraries, err := parseLoaderCache(data)
	if err != nil {
		return nil, fmt.Errorf("read the loader's cache %s: %w", file, err)
	}
	return libraries, nil
}

func parseLoaderCache(data []byte) (map[string]string, error) {
	begin := bytes.Index(data, []byte(cacheMagic))
	if begin < 0 || len(data)-begin < cacheHeaderSize {
		return nil, errors.New("not in the format of glibc 2.2 and later")
	}
	data = data[begin:]
	count := uint64(binary.LittleEndian.Uint32(data[len(cacheMagic):]))
	if cacheHeaderSize+count*cacheEntrySize > uint64(len(data)) {
		return nil, fmt.Errorf("%d entries do not fit in %d bytes", count, len(data))
	}
	libraries := make(map[string]string, count)
	for i := range count {
		e := data[cacheHeaderSize+i*cacheEntrySize:]
		flags := binary.LittleEndian.Uint32(e)
		hwcap := binary.LittleEndian.Uint64(e[16:])
		if flags != flagsX8664 || hwcap != 0 {
			continue
		}
		name, ok1 := cString(data, binary.LittleEndian.Uint32(e[4:]))
		path, ok2 := cString(data, binary.LittleEndian.Uint32(e[8:]))
		if !ok1 || !ok2 {
			return nil, fmt.Errorf("entry %d points outside", i)
		}
		// Entries are sorted best first; the loader takes the first, and so do we.
		if _, taken := libraries[name]; !taken {
			libraries[name] = path
		}
	}
	return libraries, nil
}

// cString returns the zero-terminated string at offset.
func cString(data []byte, offset uint32) (string, bool) {
	if uint64(offset) >= uint64(len(data)) {
		return "", false
	}
	s, _, ok := bytes.Cut(data[offset:], []byte{0})
	return string(s), ok
}
