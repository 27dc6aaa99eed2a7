/* audit_proofs.c - many proofs in one pass: what stands left of a record is known when it goes by, what stands right of it is noted as wanted and kept
 * when it is complete. */
#include "audit/audit_proofs.h"
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define B64 sodium_base64_VARIANT_ORIGINAL

/* A perfect subtree right of a record that is to be proven. */
struct node {
    uint64_t start;
    unsigned level;
    bool wanted, made;
    unsigned char hash[AUDIT_ROOT_BYTES];
};
struct pick {
    uint64_t seq;
    unsigned char leaf[AUDIT_ROOT_BYTES];
    unsigned char *stored;
    size_t len;
    unsigned char (*left)[AUDIT_ROOT_BYTES]; /* as many as its index has bits set, largest first */
    size_t n_left;
    bool covered;
};
struct pass {
    const struct audit_proofs_opts *o;
    struct audit_report *r;
    bool begun, possible, no_memory;
    struct audit_merkle tree; /* up to the last record that the checkpoint covers */
    struct pick *picks;
    size_t n, room;
    struct node *nodes; /* open addressing; room is a power of two */
    size_t n_nodes, node_room;
};

/* ---- nodes ---- */

static struct node *slot(struct node *list, size_t room, uint64_t start, unsigned level)
{
    uint64_t h = (start + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t)(level + 1) * UINT64_C(0xc2b2ae3d27d4eb4f);
    h ^= h >> 29;
    for (size_t i = (size_t)h & (room - 1);; i = (i + 1) & (room - 1))
        if (!list[i].wanted || (list[i].start == start && list[i].level == level))
            return &list[i];
}

static bool grow(struct pass *p)
{
    size_t room = p->node_room ? 2 * p->node_room : 1024;
    struct node *more = calloc(room, sizeof *more);
    if (!more)
        return false;
    for (size_t i = 0; i < p->node_room; i++)
        if (p->nodes[i].wanted)
            *slot(more, room, p->nodes[i].start, p->nodes[i].level) = p->nodes[i];
    free(p->nodes);
    p->nodes = more;
    p->node_room = room;
    return true;
}

static bool want(struct pass *p, uint64_t start, unsigned level)
{
    if (2 * (p->n_nodes + 1) > p->node_room && !grow(p))
        return false;
    struct node *n = slot(p->nodes, p->node_room, start, level);
    if (!n->wanted) {
        *n = (struct node){.start = start, .level = level, .wanted = true};
        p->n_nodes++;
    }
    return true;
}

static void made(struct pass *p, const struct audit_merkle_piece *piece)
{
    struct node *n = p->node_room ? slot(p->nodes, p->node_room, piece->start, piece->level) : NULL;
    if (n && n->wanted) {
        n->made = true;
        memcpy(n->hash, piece->hash, sizeof n->hash);
    }
}

/* As audit_merkle_append, but each subtree on the way is seen. */
static void append(struct pass *p, const unsigned char *leaf)
{
    struct audit_merkle *m = &p->tree;
    struct audit_merkle_piece *piece = &m->pieces[m->n++];
    *piece = (struct audit_merkle_piece){.start = m->end++};
    memcpy(piece->hash, leaf, sizeof piece->hash);
    made(p, piece);
    while (m->n >= 2) {
        struct audit_merkle_piece *a = &m->pieces[m->n - 2], *b = a + 1;
        if (a->level != b->level || (a->start >> a->level) % 2)
            break;
        audit_merkle_node(a->hash, b->hash, a->hash);
        a->level++;
        m->n--;
        made(p, a);
    }
}

/* ---- records ---- */

/* Levels from the leaf up, until one subtree holds all. What is right of the record at a level: perfect, cut off by the end, or not there. */
enum side { SIDE_LEFT, SIDE_RIGHT, SIDE_EDGE, SIDE_NONE };
static bool level_of(uint64_t index, uint64_t size, unsigned level, enum side *side, uint64_t *right)
{
    uint64_t at = index >> level;
    if (level > 62 || UINT64_C(1) << level >= size)
        return false;
    *right = (at + 1) << level;
    if (at % 2)
        *side = SIDE_LEFT;
    else if (*right >= size)
        *side = SIDE_NONE;
    else
        *side = *right + (UINT64_C(1) << level) <= size ? SIDE_RIGHT : SIDE_EDGE;
    return true;
}

static bool pick(struct pass *p, const struct audit_record *rec, const unsigned char *leaf, bool covered)
{
    if (p->n == p->room) {
        size_t room = p->room ? 2 * p->room : 64;
        struct pick *more = realloc(p->picks, room * sizeof *more);
        if (!more)
            return false;
        p->picks = more;
        p->room = room;
    }
    struct pick *k = &p->picks[p->n];
    *k = (struct pick){.seq = rec->seq, .len = rec->len, .covered = covered, .n_left = covered ? p->tree.n : 0};
    memcpy(k->leaf, leaf, sizeof k->leaf);
    k->stored = malloc(k->len ? k->len : 1);
    k->left = malloc((k->n_left ? k->n_left : 1) * sizeof *k->left);
    p->n++;
    if (!k->stored || !k->left)
        return false;
    memcpy(k->stored, rec->stored, k->len);
    for (size_t i = 0; i < k->n_left; i++)
        memcpy(k->left[i], p->tree.pieces[i].hash, sizeof k->left[i]);
    enum side side;
    uint64_t right;
    for (unsigned level = 0; covered && level_of(rec->seq - 1, p->r->checkpoint.size, level, &side, &right); level++)
        if (side == SIDE_RIGHT && !want(p, right, level))
            return false;
    return true;
}

static void on_record(void *ctx, const struct audit_record *rec, const char *file, uint64_t offset)
{
    struct pass *p = ctx;
    (void)file;
    (void)offset;
    if (!p->begun) {
        p->begun = true;
        p->possible = p->r->checkpointed && !p->r->checkpoint.former;
        p->tree = p->r->tree; /* of what was deleted */
    }
    if (p->no_memory)
        return;
    bool covered = p->possible && rec->seq <= p->r->checkpoint.size;
    if (covered && rec->seq - 1 != p->tree.end)
        covered = p->possible = false; /* records are missing: said as a problem */
    bool wanted = p->o->wanted(p->o->ctx, rec);
    if (!covered && !wanted)
        return;
    unsigned char leaf[AUDIT_ROOT_BYTES];
    audit_merkle_leaf(rec->stored, rec->len, leaf);
    if (wanted && !pick(p, rec, leaf, covered))
        p->no_memory = true;
    if (covered)
        append(p, leaf);
}

/* ---- texts ---- */

/* The root of the records from `first` to the end: the tree's last pieces. */
static bool edge(const struct audit_merkle *m, uint64_t first, unsigned char *out)
{
    size_t i = m->n;
    if (i == 0 || m->pieces[i - 1].start < first)
        return false;
    memcpy(out, m->pieces[--i].hash, AUDIT_ROOT_BYTES);
    while (i > 0 && m->pieces[i - 1].start >= first)
        audit_merkle_node(m->pieces[--i].hash, out, out);
    return m->pieces[i].start == first;
}

static bool path_of(const struct pass *p, const struct pick *k, unsigned char (*path)[AUDIT_ROOT_BYTES],
                    size_t *ret_n)
{
    size_t left = k->n_left, n = 0;
    enum side side;
    uint64_t right;
    if (!k->covered || p->tree.end != p->r->checkpoint.size)
        return false;
    for (unsigned level = 0; level_of(k->seq - 1, p->tree.end, level, &side, &right) && n < AUDIT_PATH_MAX; level++) {
        const struct node *node;
        if (side == SIDE_NONE)
            continue;
        if (side == SIDE_LEFT) {
            if (left == 0)
                return false;
            memcpy(path[n++], k->left[--left], AUDIT_ROOT_BYTES);
        } else if (side == SIDE_EDGE) {
            if (!edge(&p->tree, right, path[n++]))
                return false;
        } else {
            node = slot(p->nodes, p->node_room, right, level);
            if (!node->made)
                return false;
            memcpy(path[n++], node->hash, AUDIT_ROOT_BYTES);
        }
    }
    *ret_n = n;
    return left == 0;
}

static void tell(struct pass *p, const struct pick *k, const char *note)
{
    unsigned char path[AUDIT_PATH_MAX][AUDIT_ROOT_BYTES];
    size_t n = 0, max = sodium_base64_encoded_len(k->len, B64);
    char *record = note && path_of(p, k, path, &n) ? malloc(max) : NULL, *text = NULL;
    if (record) {
        sodium_bin2base64(record, max, k->stored, k->len, B64);
        struct audit_proof_parts parts = {.seq = k->seq,
                                          .record = record,
                                          .path = (const unsigned char(*)[AUDIT_ROOT_BYTES])path,
                                          .n_path = n,
                                          .note = note,
                                          .dir = p->o->dirs[0],
                                          .keys = &p->r->keys};
        text = audit_proof_text(&parts, NULL);
    }
    p->o->proof(p->o->ctx, k->seq, k->leaf, text);
    free(text);
    free(record);
}

/* The text of the checkpoint that the pass was about; one that was signed meanwhile is another. */
static char *note_of(const struct audit_proofs_opts *o, char *const *before, const struct audit_report *r)
{
    for (size_t i = 0; i < 2 * o->n_dirs; i++) {
        size_t n = 0;
        struct audit_checkpoint c;
        char *text = i < o->n_dirs ? before[i] ? strdup(before[i]) : NULL
                                   : (char *)audit_read_file(o->dirs[i - o->n_dirs], AUDIT_CHECKPOINT_FILE,
                                                             AUDIT_NOTE_MAX, &n, NULL);
        if (text && i >= o->n_dirs)
            text[n] = 0; /* there is room for one more byte */
        if (text && audit_checkpoint_parse(text, strlen(text), &c, NULL) == 0 && c.size == r->checkpoint.size &&
            memcmp(c.root, r->checkpoint.root, sizeof c.root) == 0)
            return text;
        free(text);
    }
    return NULL;
}

static void forget(struct pass *p)
{
    for (size_t i = 0; i < p->n; i++) {
        free(p->picks[i].stored);
        free(p->picks[i].left);
    }
    free(p->picks);
    free(p->nodes);
}

int audit_proofs_make(const struct audit_proofs_opts *o, struct audit_report *report, struct err *e)
{
    char *before[AUDIT_DIRS_MAX] = {0};
    struct pass *p = calloc(1, sizeof *p);
    struct audit_verify_opts v = {.n_dirs = o->n_dirs, .visit = on_record, .ctx = p};
    if (!p || o->n_dirs == 0 || o->n_dirs > AUDIT_DIRS_MAX) {
        free(p);
        return err_set(e, p ? "1 to %d directories" : "out of memory", AUDIT_DIRS_MAX);
    }
    p->o = o;
    p->r = report;
    for (size_t i = 0; i < o->n_dirs; i++) {
        size_t n;
        v.dirs[i] = o->dirs[i];
        before[i] = (char *)audit_read_file(o->dirs[i], AUDIT_CHECKPOINT_FILE, AUDIT_NOTE_MAX, &n, NULL);
        if (before[i])
            before[i][n] = 0;
    }
    int rc = audit_verify_trail(&v, report, e);
    if (rc >= 0 && p->no_memory)
        rc = err_set(e, "out of memory");
    char *note = rc == 0 && p->possible ? note_of(o, before, report) : NULL;
    for (size_t i = 0; rc >= 0 && i < p->n; i++)
        tell(p, &p->picks[i], note);
    free(note);
    for (size_t i = 0; i < o->n_dirs; i++)
        free(before[i]);
    forget(p);
    free(p);
    return rc;
}
