#!/bin/bash
# Makes the keys of a lab's API server in the folder $1: a CA, the server's certificate for the address $2, an
# administrator's certificate, and the pair that signs tokens of service accounts.
set -eu
cd "$1"
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }
key ca
openssl req -x509 -new -key ca.key -days 30 -subj /CN=lab -out ca.crt \
  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,digitalSignature,keyCertSign
certificate() { # name, subject, extensions
  key "$1"
  openssl req -new -key "$1.key" -subj "$2" |
    openssl x509 -req -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out "$1.crt" \
      -extfile <(printf 'basicConstraints=CA:FALSE\nkeyUsage=digitalSignature,keyEncipherment\n%s\n' "$3")
}
certificate server /CN=kube-apiserver "$(printf 'extendedKeyUsage=serverAuth\nsubjectAltName=DNS:kubernetes,IP:%s' "$2")"
certificate admin /O=system:masters/CN=admin extendedKeyUsage=clientAuth
openssl genrsa -out tokens.key 2048
openssl rsa -in tokens.key -pubout -out tokens.pub
