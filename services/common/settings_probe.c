/* settings_probe.c - what a probe's settings must be beyond their bounds: patterns, paths, headers, escapes, files, addresses. */
#include "common/escape.h"
#include "common/hostport.h"
#include "common/http.h"
#include "common/jsonpath.h"
#include "common/match.h"
#include "common/settings_impl.h"
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

static void check_pattern(struct conf_ctx *ctx, const char *key, const char *pattern, enum match_mode mode)
{
    struct err e = {""};
    if (!*pattern)
        return;
    struct match *m = match_compile(pattern, mode, &e);
    if (!m)
        conf_problem(ctx, key, "is no pattern: %s", e.text);
    match_free(m);
}

static void check_file(struct conf_ctx *ctx, const char *key, const char *path)
{
    if (!*path)
        return;
    if (*path != '/')
        conf_problem(ctx, key, "found `%s`; allowed: an absolute path", path);
    else if (access(path, R_OK) != 0)
        conf_problem(ctx, key, "`%s` cannot be read: %s", path, strerror(errno));
}

/* Values may be secrets: none is shown. */
static void check_headers(const struct set_probe *p, struct conf_ctx *ctx)
{
    char key[32];
    size_t len;
    const char *value;
    for (size_t i = 0; i < p->headers.n; i++) {
        snprintf(key, sizeof key, "headers[%zu]", i);
        if (!http_header_split(*CONF_AT(p->headers, char *, i), &len, &value))
            conf_problem(ctx, key, "found another form; allowed: `Name: value` on one line");
    }
    for (size_t i = 0; i < p->expect_headers.n; i++) {
        snprintf(key, sizeof key, "expect_headers[%zu]", i);
        if (!http_header_split(*CONF_AT(p->expect_headers, char *, i), &len, &value))
            conf_problem(ctx, key, "found `%s`; allowed: `Name: pattern`", *CONF_AT(p->expect_headers, char *, i));
        else
            check_pattern(ctx, key, value, MATCH_TEXT);
    }
}

static void check_values(const struct set_probe *p, struct conf_ctx *ctx)
{
    for (size_t i = 0; i < p->expect_json.n; i++) {
        const struct set_expect_json *x = CONF_AT(p->expect_json, struct set_expect_json, i);
        struct err e = {""};
        char key[48];
        snprintf(key, sizeof key, "expect_json[%zu].path", i);
        struct jsonpath *path = jsonpath_compile(x->path, &e);
        if (!path)
            conf_problem(ctx, key, "is no JSONPath of one value: %s", e.text);
        jsonpath_free(path);
        snprintf(key, sizeof key, "expect_json[%zu].matches", i);
        check_pattern(ctx, key, x->matches, MATCH_TEXT);
        if (*x->equals && *x->matches)
            conf_problem(ctx, key, "given together with equals; allowed: one of both");
    }
}

static void check_log(const struct set_probe *p, struct conf_ctx *ctx)
{
    char key[32];
    for (size_t i = 0; i < p->patterns.n; i++) {
        snprintf(key, sizeof key, "patterns[%zu].match", i);
        check_pattern(ctx, key, CONF_AT(p->patterns, struct set_log_pattern, i)->match, MATCH_TEXT);
    }
}

static void check_http(const struct set_probe *p, struct conf_ctx *ctx)
{
    if (strspn(p->method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != strlen(p->method))
        conf_problem(ctx, "method", "found `%s`; allowed: capital letters, as in GET", p->method);
    bool head = strcmp(p->method, "HEAD") == 0;
    if (head && *p->body)
        conf_problem(ctx, "body", "given for the method HEAD, which sends none");
    if (head && (*p->expect || *p->reject || p->expect_json.n > 0))
        conf_problem(ctx, "method", "HEAD brings no body that expect, reject or expect_json could look at");
}

/* Labels of 1 to 63 bytes without blanks; a dot at the end is fine. */
static bool name_ok(const char *name)
{
    if (!*name || strcmp(name, ".") == 0)
        return *name == '.';
    while (*name) {
        size_t n = strcspn(name, ".");
        if (n == 0 || n > 63)
            return false;
        for (size_t i = 0; i < n; i++)
            if (name[i] <= ' ' || name[i] > '~' || name[i] == '\\')
                return false;
        name += n + (name[n] == '.');
    }
    return true;
}

static void check_dns(const struct set_probe *p, struct conf_ctx *ctx)
{
    char host[HOSTPORT_HOST_MAX];
    unsigned char address[16];
    int port;
    if (*p->query && !name_ok(p->query))
        conf_problem(ctx, "query", "found `%s`; allowed: a name such as www.example.org", p->query);
    if (*p->server && (hostport_split(p->server, 53, host, &port) ||
                       (inet_pton(AF_INET, host, address) != 1 && inet_pton(AF_INET6, host, address) != 1)))
        conf_problem(ctx, "server", "found `%s`; allowed: an address, address:port or [v6 address]:port", p->server);
}

void settings_check_tcp_url(const char *url, struct conf_ctx *ctx)
{
    char at[1024 + 1], host[HOSTPORT_HOST_MAX];
    int port;
    snprintf(at, sizeof at, "%s", strncasecmp(url, "tcp://", 6) == 0 ? url + 6 : url);
    at[strcspn(at, "/")] = 0;
    if (!strrchr(at, ':') || at[strlen(at) - 1] == ']')
        conf_problem(ctx, "url", "found no port; allowed: tcp://host:port");
    else if (hostport_split(at, 0, host, &port) || strcspn(host, "@?#") != strlen(host))
        conf_problem(ctx, "url", "found another form; allowed: tcp://host:port or tcp://[v6 address]:port");
}

void settings_check_probe_network(const struct set_probe *p, struct conf_ctx *ctx)
{
    struct err e = {""};
    check_pattern(ctx, "expect", p->expect, p->type == SET_PROBE_TCP ? MATCH_BYTES : MATCH_TEXT);
    check_pattern(ctx, "reject", p->reject, MATCH_TEXT);
    check_headers(p, ctx);
    check_values(p, ctx);
    check_log(p, ctx);
    if (escape_decode(p->send, NULL, NULL, &e))
        conf_problem(ctx, "send", "%s", e.text);
    check_file(ctx, "tls_ca_file", p->tls_ca_file);
    check_file(ctx, "tls_cert_file", p->tls_cert_file);
    check_file(ctx, "tls_key_file", p->tls_key_file);
    if (*p->tls_key_file && !*p->tls_cert_file)
        conf_problem(ctx, "tls_cert_file", "is missing, but there is a tls_key_file");
    if (*p->tls_name && !name_ok(p->tls_name) && !strchr(p->tls_name, ':'))
        conf_problem(ctx, "tls_name", "found `%s`; allowed: a name such as www.example.org", p->tls_name);
    if (p->type == SET_PROBE_HTTP)
        check_http(p, ctx);
    if (p->type == SET_PROBE_DNS)
        check_dns(p, ctx);
}
