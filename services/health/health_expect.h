/* health_expect.h - what an answer must be: patterns, headers, JSON values; made ready once per target, kept in its memory. */
#ifndef REDOUBT_HEALTH_EXPECT_H
#define REDOUBT_HEALTH_EXPECT_H

#include "common/jsonpath.h"
#include "common/match.h"
#include "health/health_probe.h"

struct health_expect_pattern {
    char *text; /* as in the settings, for people */
    struct match *match;
};
struct health_expect_header {
    char *name;
    struct health_expect_pattern value;
};
struct health_expect_value {
    char *path_text;
    struct jsonpath *path;
    char *equals;                      /* NULL = by pattern, or it must only be there */
    struct health_expect_pattern text; /* match NULL = none */
};

struct health_expect {
    struct health_expect_pattern expect, reject; /* match NULL = none */
    struct health_expect_header *headers;
    size_t n_headers;
    struct health_expect_value *values;
    size_t n_values;
    char *wrong;         /* settings that cannot be used: every result says so; NULL = none */
    int64_t cert_ends_s; /* http: of the chain that was last shown; 0 = none was seen */
    char *cert;          /* which one that is; NULL = not known */
};

/* From the target's memory, or made ready. NULL: memory is out. */
struct health_expect *health_expect_of(struct health_probe_conf *conf, enum match_mode mode);
/* A setting that cannot be used, and why; the first stays. */
void health_expect_refuse(struct health_expect *x, const char *what, const char *why);
/* For the vtable. */
void health_expect_forget(struct health_probe_conf *conf);

/* All of these: true if it is as expected; otherwise fault and detail of r say what is not. */
bool health_expect_usable(const struct health_expect *x, struct health_result *r);
bool health_expect_headers(const struct health_expect *x, const struct http_call *c, struct health_result *r);
bool health_expect_body(const struct health_expect *x, const char *body, size_t len, struct health_result *r);

#endif
