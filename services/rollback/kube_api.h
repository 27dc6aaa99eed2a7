/* kube_api.h - a client of the Kubernetes API on common/http: calls that are repeated where that is right, and objects that are followed.
 *
 * The token is read before each call, as it rotates; after a 401 everything is read anew and the call made again. 429, 503 and
 * connections that broke are tried again a few times: every write is guarded (resourceVersion, or a name), so twice is no harm. */
#ifndef REDOUBT_ROLLBACK_KUBE_API_H
#define REDOUBT_ROLLBACK_KUBE_API_H

#include "common/http.h"
#include "common/settings.h"
#include <jansson.h>

struct kube;
/* NULL with the reason in e: settings that cannot be used. `set` stays valid until close. */
struct kube *kube_open(struct loop *l, struct http *h, const struct set_rb_kubernetes *set, struct err *e);
/* What is in hand is dropped: its callbacks come now, with r NULL, so that their ctx can be freed. NULL is fine. */
void kube_close(struct kube *k);
const char *kube_namespace(const struct kube *k);

/* Collections of the namespace. */
enum kube_kind {
    KUBE_DEPLOYMENTS,
    KUBE_PODS,
    KUBE_CONFIGMAPS,
    KUBE_SECRETS, /* metadata only, never their contents */
    KUBE_SERVICES,
    KUBE_SLICES,  /* EndpointSlices */
    KUBE_SCALERS, /* HorizontalPodAutoscalers */
    KUBE_ROUTES,  /* HTTPRoutes of the Gateway API */
    KUBE_REVIEWS, /* SelfSubjectAccessReviews; of the cluster */
    KUBE_KINDS,
};
const char *kube_group(enum kube_kind kind);    /* "" = core */
const char *kube_resource(enum kube_kind kind); /* "deployments" */

enum kube_verb { KUBE_GET, KUBE_LIST, KUBE_CREATE, KUBE_PATCH, KUBE_MERGE, KUBE_DELETE };
struct kube_request { /* copied */
    enum kube_kind kind;
    enum kube_verb verb;  /* PATCH: JSON patch; MERGE: merge patch */
    const char *name;     /* not of LIST and CREATE */
    const char *selector; /* LIST: labels, "a=b,c=d"; NULL = all */
    const json_t *body;   /* CREATE, PATCH, MERGE */
    bool dry;             /* changes nothing, but is checked as if it did */
};
struct kube_reply { /* valid only inside the callback */
    bool ok;
    int status;        /* of HTTP; 0 = no answer */
    bool lasting;      /* trying again is of no use: rights, names, what is sent */
    const char *error; /* what, where, what to do; "" if ok */
    json_t *body;      /* NULL if there is none; who keeps it takes a reference */
};
typedef void (*kube_cb)(void *ctx, const struct kube_reply *r); /* r NULL: the client is closed */
/* Returns at once; the callback comes once, later, on the loop. */
void kube_call(struct kube *k, const struct kube_request *q, kube_cb cb, void *ctx);

/* Somebody else changed it meanwhile: read again and decide. */
bool kube_conflict(const struct kube_reply *r);

/* ---- following one object (kube_follow.c) ---- */

struct kube_follow;
/* The object as it is now, and then after each change of it, until kube_unfollow(); not ok: it cannot be read (403, 404, ...), following ends
 * by itself only if that is lasting. A watch that is cut goes on where it was; one that is too old (410) begins anew. */
struct kube_follow *kube_follow(struct kube *k, enum kube_kind kind, const char *name, kube_cb cb, void *ctx);
void kube_unfollow(struct kube_follow *f); /* may be called from inside its callback; NULL is fine */

#endif
