/* store_lookup.c - the addresses of a name, by the system's resolver on libuv's threads.
 *
 * A request that nobody waits for any more goes on, as the resolver cannot be stopped. Who asks for the same name again waits for that one. */
#include "common/store_lookup.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct store_lookup_request {
    uv_getaddrinfo_t req;
    struct store_lookup *owner; /* NULL once it is gone */
    char host[256];
};

void store_lookup_init(struct store_lookup *x, struct loop *l, void (*done)(void *ctx, const char *why), void *ctx)
{
    *x = (struct store_lookup){.l = l, .done = done, .ctx = ctx};
}

static void forget(struct store_lookup *x)
{
    if (x->list)
        uv_freeaddrinfo(x->list);
    x->list = x->next = NULL;
    x->numeric[0] = 0;
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *list)
{
    struct store_lookup_request *r = req->data;
    struct store_lookup *x = r->owner;
    bool wanted = x && x->wanted == r;
    for (size_t i = 0; x && i < STORE_LOOKUPS_MAX; i++)
        if (x->requests[i] == r)
            x->requests[i] = NULL;
    free(r);
    if (!wanted) {
        if (list)
            uv_freeaddrinfo(list);
        return;
    }
    x->wanted = NULL;
    forget(x);
    x->list = x->next = list;
    x->done(x->ctx, status < 0 ? uv_strerror(status) : list ? NULL : "the name has no address");
}

static int request(struct store_lookup *x, const char *host, struct err *e)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct store_lookup_request **room = NULL;
    for (size_t i = 0; i < STORE_LOOKUPS_MAX; i++) {
        struct store_lookup_request *r = x->requests[i];
        if (r && strcmp(r->host, host) == 0) {
            x->wanted = r;
            return 0;
        }
        if (!r)
            room = &x->requests[i];
    }
    if (!room)
        return err_set(e, "other names are still being looked up");
    struct store_lookup_request *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(e, "out of memory");
    r->owner = x;
    r->req.data = r;
    if ((size_t)snprintf(r->host, sizeof r->host, "%s", host) >= sizeof r->host) {
        free(r);
        return err_set(e, "the name is too long");
    }
    int status = uv_getaddrinfo(&x->l->uv, &r->req, on_resolved, r->host, NULL, &hints);
    if (status < 0) {
        free(r);
        return err_set(e, "%s", uv_strerror(status));
    }
    *room = x->wanted = r;
    return 0;
}

int store_lookup_start(struct store_lookup *x, const char *host, struct err *e)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    forget(x);
    x->wanted = NULL;
    if (strlen(host) < sizeof x->numeric && (uv_ip4_addr(host, 1, &v4) == 0 || uv_ip6_addr(host, 1, &v6) == 0)) {
        memcpy(x->numeric, host, strlen(host) + 1);
        return 1;
    }
    return request(x, host, e);
}

bool store_lookup_more(const struct store_lookup *x)
{
    return x->numeric[0] || x->next;
}

bool store_lookup_next(struct store_lookup *x, char ip[static STORE_IP_MAX])
{
    ip[0] = 0;
    if (x->numeric[0]) {
        memcpy(ip, x->numeric, sizeof x->numeric);
        x->numeric[0] = 0;
        return true;
    }
    const struct addrinfo *a = x->next;
    if (!a)
        return false;
    x->next = a->ai_next;
    if (a->ai_family == AF_INET)
        uv_ip4_name((const struct sockaddr_in *)(const void *)a->ai_addr, ip, STORE_IP_MAX);
    else if (a->ai_family == AF_INET6)
        uv_ip6_name((const struct sockaddr_in6 *)(const void *)a->ai_addr, ip, STORE_IP_MAX);
    return true;
}

void store_lookup_cancel(struct store_lookup *x)
{
    x->wanted = NULL;
}

void store_lookup_free(struct store_lookup *x)
{
    x->wanted = NULL;
    for (size_t i = 0; i < STORE_LOOKUPS_MAX; i++) {
        struct store_lookup_request *r = x->requests[i];
        x->requests[i] = NULL;
        if (!r)
            continue;
        r->owner = NULL;
        (void)uv_cancel((uv_req_t *)&r->req); /* its callback comes in any case */
    }
    forget(x);
}
