/* rollback_id.c - what a version is known by: a hash of its configuration, and an id of both that and its artefact. */
#include "rollback/rollback_executor.h"
#include <assert.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first `digits` hexadecimal digits of SHA-256 over text. */
static void hash_text(const char *text, size_t len, char *buf, size_t digits)
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    int ok = EVP_Digest(text, len, hash, &n, EVP_sha256(), NULL);
    assert(ok == 1 && n == 32 && "SHA-256 cannot fail but for memory");
    for (size_t i = 0; i < digits; i++)
        buf[i] = "0123456789abcdef"[i % 2 ? hash[i / 2] & 15 : hash[i / 2] >> 4];
    buf[digits] = '\0';
}

const char *executor_version_id(const char *digest, const char *config_hash, char *buf)
{
    char text[512];
    int n = snprintf(text, sizeof text, "%s\n%s", digest, config_hash);
    assert(n > 0 && (size_t)n < sizeof text && "both are bounded by struct rollback_version");
    hash_text(text, (size_t)n, buf, ROLLBACK_ID - 1);
    return buf;
}

const char *executor_config_hash(const void *json, char *buf)
{
    char *text = json_dumps(json, JSON_SORT_KEYS | JSON_COMPACT | JSON_ENCODE_ANY);
    assert(text && "out of memory for a configuration");
    hash_text(text, strlen(text), buf, 64);
    free(text);
    return buf;
}
