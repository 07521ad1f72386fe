package http2

// Tool is tool, for the tests outside of the package.
var Tool = tool
