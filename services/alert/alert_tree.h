/* alert_tree.h - channels in groups in groups: who is to be tried now, and who is owed what at the end? Pure.
 *
 * A failover group is told by its first member that accepts; the next one begins when the one before has failed. A fanout group begins all its
 * members at once, none waits for another; it is told when one has accepted and all have ended. A channel that is in the tree more than once is tried
 * once: what comes of it counts wherever it stands. */
#ifndef REDOUBT_ALERT_TREE_H
#define REDOUBT_ALERT_TREE_H

#include <stddef.h>
#include <stdint.h>

#define ALERT_WAYS_MAX   64  /* different channels */
#define ALERT_LEAVES_MAX 64  /* places of channels */
#define ALERT_NODES_MAX  600 /* those and the groups, 8 deep, that they are in */

enum alert_node_kind { ALERT_NODE_CHANNEL, ALERT_NODE_FAILOVER, ALERT_NODE_FANOUT };
/* Parents before children: the first child of i is i + 1, the next one is where that ends. */
struct alert_node {
    uint8_t kind;
    uint8_t way;  /* CHANNEL: which */
    uint16_t end; /* the first node that is not below this one */
};
struct alert_tree {
    size_t n; /* 0 = nobody */
    struct alert_node nodes[ALERT_NODES_MAX];
};

/* What has become of each channel: a bit per way. */
struct alert_marks {
    uint64_t absent; /* as if it were not there: a record, or what the message is about */
    uint64_t busy;   /* being tried */
    uint64_t told;   /* has accepted */
    uint64_t put_by; /* takes no more now, but gets it later in a digest */
    uint64_t failed;
};
enum alert_standing {
    ALERT_STANDING_ABSENT, /* nobody is there to be told */
    ALERT_STANDING_OPEN,
    ALERT_STANDING_TOLD,
    ALERT_STANDING_PUT_BY,
    ALERT_STANDING_FAILED,
};
/* How the whole stands; ways that are to begin now go to *ret_begin. */
enum alert_standing alert_tree_look(const struct alert_tree *t, const struct alert_marks *m, uint64_t *ret_begin);
/* Nodes that have not been told, each as high in the tree as that is true of all of it; for a tree that stands neither OPEN nor ABSENT. */
size_t alert_tree_owed(const struct alert_tree *t, const struct alert_marks *m,
                       uint16_t out[static ALERT_LEAVES_MAX]);

#endif
