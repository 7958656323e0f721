/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuzz_control.c - any octets as requests of the control socket.
 *
 * The input is cut into lines, as the socket would; each is answered, listings to their end; who follows flows gets an
 * event or two. Each answer must be JSON, fit its buffer, and be no empty page.
 */
#include "gateway/control_private.h"
#include "test/tools/toy_gateway.h"

#include <jansson.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_line(const char *line, size_t len)
{
	json_t *answer = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);

	if (!answer)
		abort();
	json_decref(answer);
}

static void check(const struct jsonw *w)
{
	const char *end;

	if (w->full)
		abort();
	for (size_t at = 0, len; at < w->len; at += len + 1) {
		end = memchr(w->buf + at, '\n', w->len - at);
		len = end ? (size_t)(end - w->buf) - at : w->len - at;
		check_line(w->buf + at, len);
	}
}

static void ask(struct toy *t, const char *line, size_t len)
{
	static char out[CONTROL_OUT_MAX];
	struct control_request r = {.gw = &t->gw, .peer = {.access = CONTROL_ADMIN}};
	struct jsonw w;

	if (len >= CONTROL_LINE_MAX)
		return;
	jw_init(&w, out, sizeof(out) - 1);
	control_dispatch(&r, line, len, &w);
	check(&w);
	while (r.rows) {
		jw_init(&w, out, sizeof(out) - 1);
		control_page(&r, &w);
		check(&w);
	}
	if (r.following) {
		uint32_t flow = toy_flow(t, 1, IPPROTO_TCP, 5000);

		if (flow != FS_NONE)
			fs_end(t->gw.fs, flow, toy_now_ms);
		jw_init(&w, out, sizeof(out) - 1);
		control_follow_page(&r, &w);
		check(&w);
		control_follow_leave(&r);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct toy t;
	const char *p = (const char *)data;

	if (!t.gw.fs) {
		if (toy_open(&t, 1024) || toy_ipsec(&t))
			abort();
		toy_ike_up(&t);
		if (!toy_sa(&t, true, 0, true) || !toy_sa(&t, false, 1000, true))
			abort();
		for (uint32_t n = 1; n <= 10; n++)
			for (unsigned tn = 0; tn < TOY_TUNNELS; tn++)
				toy_flow(&t, tn, tn ? IPPROTO_TCP : IPPROTO_ICMPV6, n);
	}
	/* What a failed reload says is any text, too. */
	t.reload_result = size % 2 ? -EINVAL : 0;
	t.steer_result = size % 3 ? 0 : -EDESTADDRREQ;
	while (size) {
		const char *end = memchr(p, '\n', size);
		size_t len = end ? (size_t)(end - p) : size;

		ask(&t, p, len);
		p += len + (end != NULL);
		size -= len + (end != NULL);
	}
	return 0;
}
