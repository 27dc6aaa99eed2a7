/* kube_look.h - what stands, read at one go: the Deployments, their pods, and what their templates refer to. */
#ifndef REDOUBT_ROLLBACK_KUBE_LOOK_H
#define REDOUBT_ROLLBACK_KUBE_LOOK_H

#include "rollback/kube_api.h"
#include "rollback/kube_deployment.h"
#include "rollback/rollback_executor.h"

/* An annotation of a Deployment whose template we have set. It counts only as long as the template is the one that it was written for:
 * Of a version that others deployed it is written when it is stopped (without a job), as nobody can say its digest while no pod runs.
 * {"id", "name", "digest", "config", "image", "hash" of template and ConfigMaps as they were then, "job", "side", "stale", "was": {"id", "side"}}. */
#define KUBE_STATE    "io.redoubt.state"
#define KUBE_STOPPED  "io.redoubt.stopped" /* id of the version that was scaled to 0; its number of pods: "id n" */
#define KUBE_SPEC_MAX 49152

struct kube_side {
    json_t *deployment;              /* NULL = there is none */
    json_t *template;                /* normal form (kube_template) */
    json_t *pods;                    /* array of those that it owns */
    json_t *hashes;                  /* {"ConfigMap": SHA-256} that the template refers to, by the originals' names */
    json_t *state;                   /* NULL = deployed by others */
    struct executor_version version; /* of the template; id "" = not known yet */
    char hash[65];
};
struct kube_look {
    bool ok, lasting;
    char error[1200];
    struct kube_side side[2]; /* [1] is the canary; empty without one */
    json_t *configmaps;       /* {"name": the object, or null if it is not there or must not be read} */
    json_t
        *secrets; /* {"name": "uid/resourceVersion", or "" if it is not there, or null if it must not be looked at} */
};
typedef void (*kube_look_cb)(void *ctx,
                             const struct kube_look *l); /* valid only inside; NULL: the client is closed */

/* How much is read. */
enum kube_depth { KUBE_PODS_ONLY, /* Deployments and pods: no versions */ KUBE_ALL };
/* Looks at `set`'s Deployments. cb comes once, later. also: {"ConfigMap": true} that are to be read, too; secrets the same for Secrets. May be
 * NULL. */
void kube_look(struct kube *k, const struct set_rb_kubernetes *set, enum kube_depth depth, const json_t *also,
               const json_t *secrets, kube_look_cb cb, void *ctx);

/* ---- pure (kube_version.c) ---- */

/* Fills in what follows from deployment, pods and objects. */
void kube_side_read(struct kube_side *s, const struct set_rb_kubernetes *set, const struct kube_look *l);
void kube_side_free(struct kube_side *s);
/* Have we set this template? Then its pods say which version they are. */
bool kube_side_ours(const struct kube_side *s);
/* Does this pod have the template that its Deployment has now? As far as can be told from the pod. */
bool kube_side_current(const struct kube_side *s, const json_t *pod);

#endif
