/* page_check.h - whether a page is well formed: each element closed in its place, each attribute quoted, each reference known, each id once; and whether
 * it needs anything besides itself. Stricter than a browser: what passes here looks the same in every one. */
#ifndef REDOUBT_TESTS_PAGE_CHECK_H
#define REDOUBT_TESTS_PAGE_CHECK_H

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_DEEP 64
#define PAGE_IDS  256

struct page_check {
    char open[PAGE_DEEP][24];
    size_t deep;
    char ids[PAGE_IDS][64];
    size_t n_ids, elements;
    char why[300];
};

static inline bool page_bad(struct page_check *c, const char *what, const char *at)
{
    snprintf(c->why, sizeof c->why, "%s: %.120s", what, at);
    return false;
}

static inline bool page_reference(const char *s)
{
    static const char *const known[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;", "&nbsp;"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strncmp(s, known[i], strlen(known[i])) == 0)
            return true;
    return false;
}

static inline bool page_attribute(struct page_check *c, const char **at)
{
    static const char *const never[] = {"src", "href", "srcset", "action", "data", "poster", "background"};
    const char *name = *at, *s = name;
    while (isalnum((unsigned char)*s) || strchr("-_:", *s))
        s++;
    size_t n = (size_t)(s - name);
    if (n == 0 || strncmp(s, "=\"", 2) != 0)
        return page_bad(c, "an attribute without a quoted value", name);
    if (n > 1 && strncmp(name, "on", 2) == 0)
        return page_bad(c, "an attribute that runs something", name);
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        if (strlen(never[i]) == n && strncmp(never[i], name, n) == 0)
            return page_bad(c, "an attribute that loads or leads to something", name);
    const char *value = s + 2, *end = value;
    for (; *end && *end != '"'; end++)
        if (*end == '<' || (*end == '&' && !page_reference(end)))
            return page_bad(c, "a value that is not escaped", name);
    if (!*end)
        return page_bad(c, "a value without an end", name);
    if (n == 2 && strncmp(name, "id", 2) == 0) {
        char id[64];
        snprintf(id, sizeof id, "%.*s", (int)(end - value), value);
        for (size_t i = 0; i < c->n_ids; i++)
            if (strcmp(c->ids[i], id) == 0)
                return page_bad(c, "an id that is there twice", id);
        if (c->n_ids < PAGE_IDS)
            memcpy(c->ids[c->n_ids++], id, sizeof id);
    }
    *at = end + 1;
    return true;
}

static inline bool page_element(struct page_check *c, const char **at)
{
    static const char *const empty[] = {"meta", "br"};
    static const char *const never[] = {"script", "img", "link", "iframe", "object", "embed", "base", "form", "a"};
    const char *begin = *at, *s = begin + 1;
    bool closes = *s == '/', closed = false;
    char name[24] = "";
    s += closes;
    for (size_t n = 0; isalnum((unsigned char)*s) && n < sizeof name - 1; n++)
        name[n] = *s++;
    if (!*name)
        return page_bad(c, "a `<` that begins no element", begin);
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        if (strcmp(never[i], name) == 0)
            return page_bad(c, "an element that does not belong here", begin);
    while (!closes && *s == ' ') {
        s++;
        if (!page_attribute(c, &s))
            return false;
    }
    if (*s == '/') {
        closed = true;
        s++;
    }
    if (*s != '>')
        return page_bad(c, "an element without an end", begin);
    *at = s + 1;
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++)
        closed = closed || strcmp(empty[i], name) == 0;
    if (closes) {
        if (c->deep == 0 || strcmp(c->open[c->deep - 1], name) != 0)
            return page_bad(c, "an end that fits no beginning", begin);
        c->deep--;
        return true;
    }
    c->elements++;
    if (closed)
        return true;
    if (c->deep == PAGE_DEEP)
        return page_bad(c, "too deep", begin);
    memcpy(c->open[c->deep++], name, sizeof name);
    return true;
}

/* NULL, or what is wrong, until the next call. */
static inline const char *page_check(const char *html)
{
    static struct page_check c;
    static const char doctype[] = "<!doctype html>\n";
    c = (struct page_check){0};
    const char *at = html;
    if (strncmp(at, doctype, strlen(doctype)) != 0)
        return "it does not begin as a page";
    at += strlen(doctype);
    while (*at) {
        if (c.deep && strcmp(c.open[c.deep - 1], "style") == 0) {
            if (!(at = strstr(at, "</style>")))
                return "a style without an end";
        }
        if (*at == '<') {
            if (!page_element(&c, &at))
                return c.why;
        } else if (*at == '&' && !page_reference(at)) {
            page_bad(&c, "a reference that is not known", at);
            return c.why;
        } else
            at++;
    }
    return c.deep ? "not all elements are closed" : c.elements < 20 ? "there is next to nothing in it" : NULL;
}

static inline void page_good(const char *html)
{
    const char *why = page_check(html);
    if (why)
        fail_msg("%s", why);
}

#endif
