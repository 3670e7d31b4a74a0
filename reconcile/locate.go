package reconcile

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// position gives the line and column, both from 1, of a byte offset in a text.
func position(data []byte, offset int64) (line, column int) {
	before := data[:max(0, min(int(offset), len(data)))]
	line = bytes.Count(before, []byte("\n")) + 1
	column = len(before) - bytes.LastIndexByte(before, '\n')
	return line, column
}

// locate gives the position of the value at a JSON pointer, or of the last part of it that is there.
func locate(data []byte, pointer string) (line, column int) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	at := int64(0)
	for _, part := range strings.Split(strings.TrimPrefix(pointer, "/"), "/") {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		token, err := decoder.Token()
		if err != nil || !enter(decoder, token, part) {
			break
		}
		at = decoder.InputOffset()
	}
	for at < int64(len(data)) && bytes.IndexByte([]byte(" \t\r\n:,"), data[at]) >= 0 {
		at++
	}
	return position(data, at)
}

// enter reads on, in the object or list that token opened, up to the value of the key or index.
func enter(decoder *json.Decoder, token json.Token, part string) bool {
	var skipped json.RawMessage
	for i := 0; decoder.More(); i++ {
		switch token {
		case json.Delim('{'):
			key, err := decoder.Token()
			if err != nil {
				return false
			}
			if key == part {
				return true
			}
		case json.Delim('['):
			if strconv.Itoa(i) == part {
				return true
			}
		default:
			return false
		}
		if decoder.Decode(&skipped) != nil {
			return false
		}
	}
	return false
}
