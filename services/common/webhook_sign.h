/* webhook_sign.h - calls to webhooks, signed as Standard Webhooks has it: HMAC-SHA256 of `id.timestamp.body`. Pure. */
#ifndef REDOUBT_WEBHOOK_SIGN_H
#define REDOUBT_WEBHOOK_SIGN_H

#include "common/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WEBHOOK_KEY_MIN 24 /* bytes; Standard Webhooks has 24 to 64 */
#define WEBHOOK_KEY_MAX 64
struct webhook_key {
    unsigned char bytes[WEBHOOK_KEY_MAX];
    size_t len;
};
/* Reads `whsec_` and base64. 0, or -1 with what is wrong; the text never holds any of the secret. The caller wipes the key. */
int webhook_key_read(const char *secret, struct webhook_key *ret, struct err *e);

#define WEBHOOK_SIGNATURE_MAX 48 /* "v1," and 32 bytes in base64 */
/* The value of `webhook-signature`. id holds no dot. Returns out. */
const char *webhook_sign(const struct webhook_key *k, const char *id, int64_t unix_s, const void *body, size_t len,
                         char out[static WEBHOOK_SIGNATURE_MAX]);
/* Is one of the signatures in the header's value (with blanks between) that of this call? */
bool webhook_signed(const struct webhook_key *k, const char *id, int64_t unix_s, const void *body, size_t len,
                    const char *signatures);

/* The headers of a call. `id` is the same each time that the same is sent again; the time is that of the attempt. */
struct webhook_headers {
    char id[96], timestamp[48], signature[80];
};
/* k NULL = not signed: signature is "". */
void webhook_headers(const struct webhook_key *k, const char *id, int64_t unix_s, const void *body, size_t len,
                     struct webhook_headers *ret);

#endif
