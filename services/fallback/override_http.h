/* override_http.h - the backend's override API behind one small table, so that another kind of backend is another table. */
#ifndef REDOUBT_FALLBACK_OVERRIDE_HTTP_H
#define REDOUBT_FALLBACK_OVERRIDE_HTTP_H

#include "common/http.h"
#include "common/settings.h"
#include "fallback/fallback.h"

struct override_request { /* copied by send */
    enum fallback_call_kind kind;
    const char *url;   /* base URL */
    const char *path;  /* of this kind of call */
    const char *body;  /* template, see common/template.h */
    const char *token; /* "" = none */
    int auth;          /* enum set_auth: how it is sent */
    const char *auth_header;
    const char *key; /* Idempotency-Key */
    const char *agent;
    uint64_t epoch;
    int64_t duration_ms;
    const char *justification;
    const char *baseline_version, *baseline_sha256; /* "" = the strict built-in */
};
/* ok: the backend accepted it. detail: one line for people. Called exactly once, later, on the loop. */
typedef void (*override_done)(void *ctx, bool ok, const char *detail);
struct override_api {
    const char *name;
    /* The handle is good until done. */
    void *(*send)(void *self, const struct override_request *r, override_done done, void *ctx);
    void (*cancel)(void *handle); /* done is called later, not ok */
};

/* POST {url}{path}, JSON by the template. `self` is the struct http. Success is any 2xx. */
extern const struct override_api override_http;

#endif
