package http2

// For the tests outside of the package.
var (
	Tool     = tool
	Conforms = conforms
)
