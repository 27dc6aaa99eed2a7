/* executor_kubernetes.h - what the files of the Kubernetes executor share; private to them. */
#ifndef REDOUBT_ROLLBACK_EXECUTOR_KUBERNETES_H
#define REDOUBT_ROLLBACK_EXECUTOR_KUBERNETES_H

#include "rollback/kube_look.h"
#include "rollback/rollback_executor.h"

#define KUBE_OWNER "io.redoubt.deployment" /* label of what we make: whose it is */

struct executor {
    struct service *service;
    const struct set_deployment *set;
    struct kube *kube;
    bool pair;
};

enum act_kind { ACT_CHECK, ACT_UP, ACT_STOP, ACT_START, ACT_REMOVE };
/* One act in hand. Exactly one thing is asked at a time (a look, a call, an object that is followed), so that whoever hears of the client's end
 * frees it; the checks of rights, which are asked together, count themselves. */
struct act {
    struct executor *x;
    enum act_kind kind;
    executor_cb cb;
    void *ctx;
    char job[ROLLBACK_JOB], version[ROLLBACK_ID], name[ROLLBACK_NAME], digest[129];
    json_t *spec; /* NULL if it cannot be read */
    int side;
    unsigned count;
    unsigned tries; /* that met somebody else's change */
    /* Of the last look. */
    json_t *deployment, *other; /* of the side that is acted upon; of the other one, NULL without */
    json_t *copies;             /* {"ConfigMap": "its copy"} */
    json_t *make;               /* array of ConfigMaps that are to be created */
    json_t *template;
    char was[ROLLBACK_ID], hash[65];
    int was_side;
    char stale[64];
    char stuck[300]; /* what is waited for */
    struct kube_follow *follow;
    struct loop_timer limit;
    bool limited;
    bool fails; /* pods cannot be made, as the Deployment says */
    /* Check. */
    size_t asked;
    bool closed;
    char missing[600], notes[600];
};

struct act *act_new(struct executor *x, enum act_kind kind, const struct executor_order *o, executor_cb cb,
                    void *ctx);
/* Frees it, and tells: ok without an error. Nothing of it may be in hand. */
void act_end(struct act *a, bool lasting, const char *error_or_null, const char *text);
void act_drop(struct act *a); /* the client is closed */
/* Looks, with the ConfigMaps and Secrets that the recorded version needs. */
void act_look(struct act *a, kube_look_cb cb);
/* Takes from the look what acting needs. -1: it has ended with an error. */
int act_take(struct act *a, const struct kube_look *l);
/* The recorded template for this Deployment, with copies where ConfigMaps are not what they were. -1: it has ended with an error. */
int act_plan_template(struct act *a, const struct kube_look *l);
json_t *act_spec_template(const struct act *a); /* borrowed; NULL = there is none */

void kube_act_start(struct act *a);   /* kube_act.c */
void kube_check_start(struct act *a); /* kube_check.c */

#endif
