package acme

// Where the system has no root certificates, as in an image FROM scratch, those of Mozilla vouch for the authority.
import _ "golang.org/x/crypto/x509roots/fallback"
