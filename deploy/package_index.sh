# Sourced while images are built: make pip use the build secrets `pip` (a
# pip.conf) and `ca` (a bundle of certificates), where they say anything.
if [ -s /run/secrets/pip ]; then
    export PIP_CONFIG_FILE=/run/secrets/pip
fi
if grep -qs 'BEGIN CERTIFICATE' /run/secrets/ca; then
    export PIP_CERT=/run/secrets/ca SSL_CERT_FILE=/run/secrets/ca
fi
