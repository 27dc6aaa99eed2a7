/* http_tls.c - TLS as the caller wants it, and the certificates that the peer has shown.
 *
 * libcurl checks chain and name; what it found is told apart by OpenSSL's number for it, whose values are part of that library's
 * interface. The certificates come as text from libcurl, as it is for all of its TLS libraries. */
#include "common/http_priv.h"
#include <string.h>

#define CA_KEPT_S 60L /* a CA file of one's own is read again after this: it may be renewed in place */

/* Numbers of OpenSSL's x509_vfy.h. */
static const struct {
    long number;
    enum http_cert_fault fault;
} verify_results[] = {
    {9, HTTP_CERT_EARLY},      /* not yet valid */
    {10, HTTP_CERT_OVER},      /* has expired */
    {2, HTTP_CERT_AUTHORITY},  /* unable to get issuer certificate */
    {18, HTTP_CERT_AUTHORITY}, /* self-signed */
    {19, HTTP_CERT_AUTHORITY}, /* self-signed in chain */
    {20, HTTP_CERT_AUTHORITY}, /* unable to get local issuer certificate */
    {21, HTTP_CERT_AUTHORITY}, /* unable to verify the first certificate */
    {24, HTTP_CERT_AUTHORITY}, /* invalid CA certificate */
    {62, HTTP_CERT_NAME},      /* hostname mismatch */
    {64, HTTP_CERT_NAME},      /* IP address mismatch */
};

const char *http_tls_options(CURL *easy, struct http_call *c, const struct http_tls *t)
{
    CURLcode rc = CURLE_OK;
    if (t->ca_file && *t->ca_file) {
        rc = curl_easy_setopt(easy, CURLOPT_CAINFO, t->ca_file);
        curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, CA_KEPT_S);
    }
    if (rc == CURLE_OK && t->cert_file && *t->cert_file) {
        rc = curl_easy_setopt(easy, CURLOPT_SSLCERT, t->cert_file);
        if (rc == CURLE_OK)
            rc = curl_easy_setopt(easy, CURLOPT_SSLKEY, t->key_file && *t->key_file ? t->key_file : t->cert_file);
    }
    if (t->any_peer) {
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    if (t->certs) {
        curl_easy_setopt(easy, CURLOPT_CERTINFO, 1L);
        curl_easy_setopt(easy, CURLOPT_SSL_SESSIONID_CACHE, 0L); /* a resumed session shows no certificates */
    }
    if (t->connect_to && *t->connect_to) {
        c->connect_to = curl_slist_append(NULL, t->connect_to);
        if (!c->connect_to)
            return "out of memory";
        curl_easy_setopt(easy, CURLOPT_CONNECT_TO, c->connect_to);
    }
    if (t->handshake_only) {
        curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
        curl_easy_setopt(easy, CURLOPT_SSL_ENABLE_ALPN, 0L); /* it need not be a server of HTTP */
        curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
        curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
    }
    return rc == CURLE_OK ? NULL : curl_easy_strerror(rc);
}

enum http_cert_fault http_cert_fault(const struct http_call *c)
{
    long result = 0;
    if (c->fault != HTTP_CERTIFICATE || !c->easy)
        return HTTP_CERT_OTHER;
    curl_easy_getinfo(c->easy, CURLINFO_SSL_VERIFYRESULT, &result);
    for (size_t i = 0; i < sizeof verify_results / sizeof *verify_results; i++)
        if (verify_results[i].number == result)
            return verify_results[i].fault;
    /* The library compares the name by itself, after the chain was found right. */
    return strstr(c->error, "match") ? HTTP_CERT_NAME : HTTP_CERT_OTHER;
}

static const char *entry(const struct curl_slist *list, const char *name)
{
    size_t n = strlen(name);
    for (; list; list = list->next)
        if (strncmp(list->data, name, n) == 0 && list->data[n] == ':')
            return list->data + n + 1;
    return "";
}

static int64_t seconds(const char *date)
{
    time_t t = *date ? curl_getdate(date, NULL) : (time_t)-1;
    return t == (time_t)-1 ? 0 : (int64_t)t;
}

bool http_cert(const struct http_call *c, size_t nth, struct http_cert *ret)
{
    struct curl_certinfo *all = NULL;
    if (!c->easy || c->mail || curl_easy_getinfo(c->easy, CURLINFO_CERTINFO, &all) != CURLE_OK || !all ||
        all->num_of_certs < 0 || nth >= (size_t)all->num_of_certs)
        return false;
    const struct curl_slist *list = all->certinfo[nth];
    *ret = (struct http_cert){.subject = entry(list, "Subject"),
                              .issuer = entry(list, "Issuer"),
                              .names = entry(list, "X509v3 Subject Alternative Name"),
                              .begins_s = seconds(entry(list, "Start date")),
                              .ends_s = seconds(entry(list, "Expire date"))};
    return true;
}
