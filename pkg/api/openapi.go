package api

import _ "embed"

//go:embed openapi.yaml
var openAPI string

// OpenAPI is the description of the admin API in OpenAPI 3.1. Tests hold it
// against the routes and against the types of this package.
func OpenAPI() string { return openAPI }
