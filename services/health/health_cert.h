/* health_cert.h - certificates that a peer has shown: which ends first, and what that means. Pure but for reading the call's. */
#ifndef REDOUBT_HEALTH_CERT_H
#define REDOUBT_HEALTH_CERT_H

#include "common/http.h"
#include "health/health.h"

struct health_cert {
    size_t n;                                /* certificates; 0 = none was shown */
    char subject[64], issuer[64], names[64]; /* of the peer's own */
    int64_t begins_s, ends_s;                /* of the one that ends first; 0 = not known */
    char first_to_end[HEALTH_DETAIL_MAX];    /* that one, for people */
};
/* Reads what the call holds. False: the peer has shown none on this connection. */
bool health_cert_read(const struct http_call *c, struct health_cert *ret);

/* Fault and detail by the time that is left: CERTIFICATE if one is over and nobody has found the chain good, EXPIRING if one ends
 * within expiry_ms. True: neither. */
bool health_cert_lasts(int64_t ends_s, const char *which, bool chain_good, int64_t expiry_ms, int64_t now_s,
                       struct health_result *r);
/* The detail for a certificate that was refused. `cert` NULL or empty: it is not known; `error` is the library's own text. */
void health_cert_refused(enum http_cert_fault why, const struct health_cert *cert, const char *error,
                         struct health_result *r);

#endif
