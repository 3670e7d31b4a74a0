package main

import (
	"net/http"
	"strings"
)

// object is a JSON object of the OpenAPI document.
type object map[string]any

// swagger answers with OpenAPI 2, the version that v1's clients read. The example
// row is the model's own means for what it looks at, so it can be sent as it is.
func (h *handler) swagger(w http.ResponseWriter, _ *http.Request) {
	example := make([]float64, len(h.model.Inputs))
	for i, column := range h.model.columns {
		example[column] = h.model.Means[i]
	}
	numbers := object{"type": "array", "items": object{"type": "number", "format": "double"}}
	row := object{"type": "array", "items": object{"type": "number", "format": "double"},
		"minItems": len(h.model.Inputs), "maxItems": len(h.model.Inputs)}
	failure := func(text string) object {
		return object{"description": text, "schema": object{"$ref": "#/definitions/Error"}}
	}
	writeJSON(w, http.StatusOK, object{
		"swagger":  "2.0",
		"info":     object{"title": h.model.Name, "version": h.model.Version},
		"consumes": []string{"application/json"},
		"produces": []string{"application/json"},
		"paths": object{
			"/": object{"get": object{
				"operationId": "ServiceHealthCheck",
				"produces":    []string{"text/plain"},
				"responses":   object{"200": object{"description": "Healthy", "schema": object{"type": "string"}}},
			}},
			"/score": object{"post": object{
				"operationId": "RunMLService",
				"parameters": []object{{"name": "serviceInputPayload", "in": "body", "required": true,
					"schema": object{"$ref": "#/definitions/ServiceInput"}}},
				"responses": object{
					"200": object{"description": "scored", "schema": object{"$ref": "#/definitions/ServiceOutput"}},
					"400": failure("the input is malformed"),
					"413": failure("the input is too large"),
				},
			}},
		},
		"definitions": object{
			"ServiceInput": object{"type": "object", "required": []string{"data"},
				"properties": object{"data": object{"type": "array", "items": row,
					"description": "rows; columns in this order: " + strings.Join(h.model.Inputs, ", ")}},
				"example": object{"data": [][]float64{example}}},
			"ServiceOutput": object{"type": "object", "properties": object{
				"predictions":   object{"type": "array", "items": object{"type": "string", "enum": h.model.Classes}},
				"probabilities": object{"type": "array", "items": numbers},
				"model":         object{"type": "string", "example": h.model.id()},
			}},
			"Error": object{"type": "object", "properties": object{"error": object{"type": "string"}}},
		},
	})
}
