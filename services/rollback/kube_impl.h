/* kube_impl.h - what the files of the client share; private to them. */
#ifndef REDOUBT_ROLLBACK_KUBE_IMPL_H
#define REDOUBT_ROLLBACK_KUBE_IMPL_H

#include "rollback/kube_api.h"
#include "rollback/kube_config.h"

struct kube_call;
struct kube {
    struct loop *loop;
    struct http *http;
    const struct set_rb_kubernetes *set;
    struct kube_access access, former; /* former: calls on their way may name its files */
    struct kube_call *calls;           /* in hand */
    struct kube_follow *follows;
};

/* Of one HTTP exchange. */
struct kube_wire {
    char *url, *auth; /* auth: a secret; NULL = none */
    const char *headers[5];
    struct http_tls tls;
};
/* query: "" or "?a=b". -1 with the text in e. */
int kube_wire(struct kube *k, struct kube_wire *w, enum kube_kind kind, const char *name, const char *query,
              const char *content_type, struct err *e);
void kube_wire_free(struct kube_wire *w);
/* 401: settings, kubeconfig and certificates are read anew. */
int kube_reload(struct kube *k, struct err *e);
/* Percent-encodes what a query must not hold; malloc'ed or NULL. */
char *kube_escape(const char *text);
void kube_follow_drop(struct kube_follow *f); /* the client is closed */
/* What an answer that is no success means, in words. */
void kube_words(const struct kube *k, char *buf, size_t size, const char *what, int status, const json_t *body);
bool kube_lasting(int status);

#endif
