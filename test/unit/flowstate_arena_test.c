/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flowstate_arena_test.c - what survives in the arena file, what is refused, which records are torn. */
#include "test/unit/flowstate_arena_help.h"

#include <errno.h>
#include <sys/stat.h>

static void test_adopt(void **state)
{
	(void)state;
	struct world w, before;
	struct fs_stats st, st2;
	struct stat sb;
	world_new(&w, path, 1000);
	assert_int_equal(w.rep.kind, FS_OPEN_NEW);
	assert_int_equal(stat(path, &sb), 0);
	assert_int_equal(sb.st_mode & 07777, 0600);
	/* A thousand records are not a thousand records of memory. */
	assert_true((size_t)sb.st_size >= BLOCKS_AT + 1000 * 160);
	assert_true(sb.st_blocks * 512 < 64 * 1024);
	fill(&w);
	struct tuple t = tup(IPPROTO_TCP, "10.0.1.5", 1, WEB, 443);
	uint32_t fa = find(&w, w.site_a, t).flow, fb = find(&w, w.site_b, t).flow;
	struct fs_packet pk = packet(w.site_a, w.a2, t, FLAG_ACK);
	pk.mss = 1234;
	assert_int_equal(fs_pass(w.fs, (struct fs_hit){.flow = fa}, &pk, w.now), DROP_NONE);
	struct tuple rb = half(&w, fb, FS_REPLY);
	fs_get_stats(w.fs, &st);
	before = w;
	reopen(&w);
	assert_int_equal(w.rep.kind, FS_OPEN_ADOPTED);
	assert_string_equal(w.rep.why, "");
	assert_int_equal(w.rep.flows, st.used);
	assert_int_equal(w.rep.torn, 0);
	fs_get_stats(w.fs, &st2);
	assert_int_equal(st2.used, st.used);
	assert_int_equal(st2.quarantined, st.quarantined);
	check(&w);

	/* Asleep until its names are bound; all of them. */
	assert_int_equal(find(&w, before.site_a, t).flow, FS_NONE);
	assert_int_equal(fs_bind(w.fs, FS_SITE, "a", 0, 0), before.site_a);
	assert_int_equal(find(&w, before.site_a, t).flow, FS_NONE);
	bind_all(&w);
	assert_int_equal(w.site_b, before.site_b);
	assert_int_equal(w.a1, before.a1);
	assert_int_equal(w.a2, before.a2);
	assert_int_equal(w.b1, before.b1);
	assert_int_equal(w.egress, before.egress);
	fs_unbind_rest(w.fs);
	assert_int_equal(find(&w, w.site_a, t).flow, fa);
	assert_int_equal(find(&w, w.site_b, t).flow, fb);
	assert_int_equal(find(&w, w.egress, rb).flow, fb);
	assert_int_equal(fs_attach_flows(w.fs, w.a2), fs_attach_flows(w.fs, before.a2));
	struct fs_half h;
	fs_half(w.fs, fa, FS_ORIG, &h);
	assert_int_equal(h.via, w.a2); /* as it was moved */
	assert_int_equal(fs_mss(w.fs, fa, FS_REPLY), 1234);

	/* Quarantine lasts over the restart. */
	struct tuple q = tup(IPPROTO_TCP, "10.0.1.5", 35, WEB, 443);
	assert_int_equal(find(&w, w.site_a, q).flow, FS_NONE);
	fs_id c = fs_bind(w.fs, FS_SITE, "c", 0, 0), c1 = fs_bind(w.fs, FS_TUNNEL, "c1", c, 0);
	assert_true(fs_translated(w.fs, begin(&w, c, c1, q, NULL)));
	assert_false(fs_translated(w.fs, begin(&w, w.site_a, w.a1, q, NULL)));
	/* Time goes on: what was idle while nobody ran ends. */
	world_close(&w);
	w.now += 10000 * 1000ull;
	world_open(&w);
	fs_tick(w.fs, w.now, 100000);
	fs_get_stats(w.fs, &st2);
	assert_int_equal(st2.used, 0);
	sleep_s(&w, 242);
	fs_get_stats(w.fs, &st2);
	assert_int_equal(st2.quarantined, 0);
	world_close(&w);
}

/* Names that changed while nobody ran. */
static void test_names_while_away(void **state)
{
	(void)state;
	struct world w;
	world_new(&w, path, 1000);
	struct tuple t1 = tup(IPPROTO_UDP, "10.0.1.5", 1, WEB, 53),
		     t2 = tup(IPPROTO_UDP, "10.0.1.5", 2, WEB, 53);
	struct tuple t3 = tup(IPPROTO_UDP, "10.0.1.5", 3, WEB, 53);
	begin(&w, w.site_a, w.a1, t1, NULL);
	uint32_t f2 = begin(&w, w.site_a, w.a2, t2, NULL);
	uint32_t f3 = begin(&w, w.site_b, w.b1, t3, NULL);
	struct world before = w;
	reopen(&w);
	/* a1 now belongs to site b; a2 points to another device; b1 is as it was. */
	w.site_b = fs_bind(w.fs, FS_SITE, "b", 0, 0);
	w.site_a = fs_bind(w.fs, FS_SITE, "a", 0, 0);
	w.egress = fs_bind(w.fs, FS_EGRESS, "default", 0, 0);
	fs_id a1 = fs_bind(w.fs, FS_TUNNEL, "a1", w.site_b, 11);
	fs_id a2 = fs_bind(w.fs, FS_TUNNEL, "a2", w.site_a, 99);
	assert_int_not_equal(a1, before.a1);
	assert_int_not_equal(a2, before.a2);
	assert_int_equal(fs_bind(w.fs, FS_TUNNEL, "b1", w.site_b, 13), before.b1);
	fs_unbind_rest(w.fs);
	assert_int_equal(find(&w, w.site_a, t1).flow, FS_NONE);
	assert_int_equal(find(&w, w.site_b, t1).flow, FS_NONE);
	assert_int_equal(find(&w, w.site_a, t2).flow, FS_NONE);
	assert_int_equal(find(&w, w.egress, tuple_turned(&t2)).flow, FS_NONE);
	assert_int_equal(find(&w, w.site_b, t3).flow, f3);
	check(&w);
	/* Killed before the sweep: gone is gone. */
	fs_close(w.fs);
	world_open(&w);
	w.site_a = fs_bind(w.fs, FS_SITE, "a", 0, 0);
	assert_int_not_equal(fs_bind(w.fs, FS_TUNNEL, "a2", w.site_a, 12), before.a2);
	w.egress = fs_bind(w.fs, FS_EGRESS, "default", 0, 0);
	assert_int_equal(find(&w, w.site_a, t2).flow, FS_NONE);
	assert_int_equal(fs_tick(w.fs, w.now, 1000), 2);
	assert_int_equal(head_of(w.fs, f2)->state, FS_QUARANTINE);
	check(&w);
	/* And b, not bound now, is asleep; then unbound. */
	assert_int_equal(fs_tick(w.fs, w.now, 1000), 0);
	fs_unbind_rest(w.fs);
	assert_int_equal(fs_tick(w.fs, w.now, 1000), 1);
	world_close(&w);
}

static void test_max_changes(void **state)
{
	(void)state;
	struct world w;
	world_new(&w, path, 1000);
	for (uint16_t p = 1; p <= 300; p++)
		begin(&w, w.site_a, w.a1, tup(IPPROTO_UDP, "10.0.1.5", p, WEB, 53), NULL);
	w.cfg.timeout_s[FS_QUARANTINE] = 0;
	fs_reconfigure(w.fs, &w.cfg);
	for (uint32_t i = 0; i < 300; i += 2)
		fs_end(w.fs, i, w.now);

	static const struct {
		uint32_t max;
		enum fs_open_kind kind;
		uint32_t has; /* room for so many, in the end */
	} rows[] = {{5000, FS_OPEN_ADOPTED, 5000}, {1000, FS_OPEN_ADOPTED, 1000}, {200, FS_OPEN_ADOPTED, 200},
		{150, FS_OPEN_ADOPTED, 150}, {100000, FS_OPEN_ADOPTED, 100000}, {149, FS_OPEN_ADOPTED, 150},
		{10, FS_OPEN_ADOPTED, 150}, {150, FS_OPEN_ADOPTED, 150}};
	for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
		w.cfg.max = rows[r].max;
		reopen(&w);
		assert_int_equal(w.rep.kind, rows[r].kind);
		assert_int_equal(w.rep.flows, 150);
		assert_int_equal(w.rep.why[0] != 0, rows[r].has > rows[r].max);
		check(&w);
		bind_all(&w);
		fs_unbind_rest(w.fs);
		for (uint16_t p = 2; p <= 300; p += 2)
			assert_int_not_equal(
				find(&w, w.site_a, tup(IPPROTO_UDP, "10.0.1.5", p, WEB, 53)).flow, FS_NONE);
		struct stat sb;
		assert_int_equal(stat(path, &sb), 0);
		assert_int_equal(sb.st_size,
			BLOCKS_AT + (rows[r].has + PER_BLOCK - 1) / PER_BLOCK * sizeof(struct block));
	}
	world_close(&w);
}

/* ---- refusals ---------------------------------------------------------------------------------------------- */

static void other_magic(void)
{
	edit(0, "x", 1);
}

static void other_layout(void)
{
	uint32_t layout = ARENA_LAYOUT + 1;
	edit(offsetof(struct arena_header, layout), &layout, 4);
}

static void other_record_size(void)
{
	uint32_t n = 168;
	edit(offsetof(struct arena_header, record_octets), &n, 4);
}

static void other_pool_key(void)
{
	uint8_t octet; /* a random one: another than it was */
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, &octet, 1, offsetof(struct arena_header, pool_key)), 1);
	close(fd);
	octet ^= 1;
	edit(offsetof(struct arena_header, pool_key), &octet, 1);
}

static void high_beyond(void)
{
	uint32_t high = 0x7fffffff;
	edit(offsetof(struct arena_header, high), &high, 4);
	edit(offsetof(struct arena_header, high_again), &high, 4);
}

static void high_lowered(void)
{
	uint32_t high = 0;
	edit(offsetof(struct arena_header, high), &high, 4);
}

static void high_wild(void)
{
	uint32_t high = 0xfffffff0;
	edit(offsetof(struct arena_header, high), &high, 4);
}

static void names_wild(void)
{
	uint32_t high = FS_SLOTS + 1;
	edit(offsetof(struct arena_header, names_high), &high, 4);
}

static void cut_short(void)
{
	assert_int_equal(truncate(path, BLOCKS_AT + 5000), 0);
}

static void cut_to_a_stub(void)
{
	assert_int_equal(truncate(path, 60), 0);
}

static void symlinked(void)
{
	char real[sizeof(path) + 8];
	snprintf(real, sizeof(real), "%s.real", path);
	assert_int_equal(rename(path, real), 0);
	assert_int_equal(symlink(real, path), 0);
}

static void hard_linked(void)
{
	char real[sizeof(path) + 8];
	snprintf(real, sizeof(real), "%s.real", path);
	assert_int_equal(link(path, real), 0);
}

static void for_all(void)
{
	assert_int_equal(chmod(path, 0640), 0);
}

static void of_somebody(void)
{
	if (geteuid() == 0)
		assert_int_equal(chown(path, 1, 1), 0);
	else
		for_all();
}

static void a_fifo(void)
{
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
}

static void test_refused(void **state)
{
	(void)state;
	const struct {
		const char *name;
		void (*damage)(void);
		const char *why;
	} rows[] = {
		{"magic", other_magic, "not a flow arena"},
		{"layout", other_layout, "written by another version"},
		{"record size", other_record_size, "of another layout"},
		{"pool key", other_pool_key, "header is damaged"},
		{"high", high_beyond, "truncated"},
		{"high, wild", high_wild, "header is damaged"},
		{"high, wild", high_lowered, "header is damaged"},
		{"names", names_wild, "header is damaged"},
		{"cut short", cut_short, "truncated"},
		{"stub", cut_to_a_stub, "truncated"},
		{"symlink", symlinked, "is a symbolic link"},
		{"hard link", hard_linked, "has another name (hard link)"},
		{"mode", for_all, "open to other users"},
		{"owner", of_somebody, geteuid() ? "open to other users" : "belongs to another user"},
		{"fifo", a_fifo, "not a regular file"},
	};
	char real[sizeof(path) + 8];
	struct world w;
	snprintf(real, sizeof(real), "%s.real", path);
	for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
		world_new(&w, path, 1000);
		fill(&w);
		world_close(&w);
		rows[r].damage();
		world_open(&w);
		if (w.rep.kind != FS_OPEN_REFUSED || strcmp(w.rep.why, rows[r].why) != 0)
			fail_msg("%s: %d, %s", rows[r].name, w.rep.kind, w.rep.why);
		assert_int_equal(w.rep.flows, 0);
		/* A new one is in its place, and works. */
		bind_all(&w);
		fs_unbind_rest(w.fs);
		fill(&w);
		reopen(&w);
		assert_int_equal(w.rep.kind, FS_OPEN_ADOPTED);
		assert_true(w.rep.flows > 100);
		world_close(&w);
		struct stat sb;
		assert_int_equal(lstat(path, &sb), 0);
		assert_true(S_ISREG(sb.st_mode));
		unlink(real);
	}
	/* Of another boot. */
	w.cfg.boot_id[3] ^= 1;
	world_open(&w);
	assert_int_equal(w.rep.kind, FS_OPEN_REFUSED);
	assert_string_equal(w.rep.why, "of another boot");

	/* Somebody has it. */
	struct flowstate *second;
	struct fs_open_report rep;
	assert_int_equal(fs_open(&second, &w.cfg, w.now, &rep), -EBUSY);
	assert_null(second);
	world_close(&w);

	/* What cannot be opened at all is an error, not a table without a file. */
	w.cfg.path = "/dev/shm/no-such-directory/arena";
	assert_int_equal(fs_open(&second, &w.cfg, w.now, &rep), -ENOENT);
	w.cfg.path = "/dev/shm";
	assert_int_equal(fs_open(&second, &w.cfg, w.now, &rep), -EISDIR);
	w.cfg.path = NULL;
	w.cfg.max = 0;
	assert_int_equal(fs_open(&second, &w.cfg, w.now, &rep), -EINVAL);
}

/* ---- torn and contradictory records ------------------------------------------------------------------------ */

static void set_octet(uint32_t i, size_t at, uint8_t v)
{
	edit(HEAD_AT(i) + at, &v, 1);
}

static void rewrite(struct world *w, uint32_t i, struct flow_head *h)
{
	/* As a careful forger would: with a mark that fits. */
	uint32_t mark = record_mark(w->fs, h);
	edit(HEAD_AT(i), h, sizeof(*h));
	edit(BODY_AT(i), &mark, 4);
}

static void test_torn(void **state)
{
	(void)state;
	struct world w;
	world_new(&w, path, 1000);
	for (uint16_t p = 0; p < 21; p++)
		begin(&w, w.site_a, w.a1, tup(IPPROTO_UDP, "10.0.1.5", p, WEB, 53), NULL);
	uint32_t zero = 0, ahead = 0x7fffffff;
	uint16_t b1 = FS_SLOT(w.b1), site_b = FS_SLOT(w.site_b), none = 4000, egress = FS_SLOT(w.egress);
	struct flow_head h;

	edit(BODY_AT(0), &zero, 4);                                         /* 0: being written */
	set_octet(1, offsetof(struct flow_head, addr) + 15, 9);             /* 1: another address */
	set_octet(2, offsetof(struct flow_head, proto), 6);                 /* 2: another protocol */
	set_octet(3, offsetof(struct flow_head, state), FS_TCP_OPENING);    /* 3: not a state of UDP */
	set_octet(4, offsetof(struct flow_head, state), 200);               /* 4: no state */
	set_octet(5, offsetof(struct flow_head, state), FS_FREE);           /* 5: free, with a mark */
	edit(HEAD_AT(6) + offsetof(struct flow_head, via), &b1, 2);         /* 6: another site's tunnel */
	edit(HEAD_AT(7) + offsetof(struct flow_head, via), &none, 2);       /* 7: nobody's tunnel */
	edit(HEAD_AT(8) + offsetof(struct flow_head, via), &egress, 2);     /* 8: not a way into the site */
	edit(HEAD_AT(9) + offsetof(struct flow_head, realm), &site_b, 2);   /* 9: another site */
	edit(BODY_AT(10) + offsetof(struct flow_body, seen), &ahead, 4);    /* 10: mended */
	edit(BODY_AT(11) + offsetof(struct flow_body, created), &ahead, 4); /* 11: mended */
	set_octet(12, offsetof(struct flow_head, state), FS_UDP_TWO_WAY);   /* 12: may be */

	h = *head_of(w.fs, 13); /* 13: the same tuples as 14, and comes first: 14 is dropped */
	h.port[0] = h.port[2] = htons(14);
	rewrite(&w, 13, &h);
	h = *head_of(
		w.fs, 15); /* 15: a realm and via of site b by a forger who knows how: it is b's flow then */
	h.realm[0] = site_b;
	h.via[0] = b1;
	rewrite(&w, 15, &h);
	h = *head_of(w.fs, 16); /* 16: mixed families */
	h.addr[1] = ip("2001:db8::1");
	rewrite(&w, 16, &h);
	h = *head_of(w.fs, 17); /* 17: no address */
	h.addr[0] = h.addr[2] = (struct addr){};
	rewrite(&w, 17, &h);
	h = *head_of(w.fs, 18); /* 18: its halves share a tuple */
	h.realm[1] = h.realm[0];
	h.via[1] = h.via[0];
	h.addr[1] = h.addr[0];
	h.port[1] = h.port[0];
	rewrite(&w, 18, &h);
	h = *head_of(w.fs, 20); /* 20: only its original tuple is that of 19 */
	h.port[0] = htons(19);
	rewrite(&w, 20, &h);

	reopen(&w);
	assert_int_equal(w.rep.kind, FS_OPEN_ADOPTED);
	assert_int_equal(w.rep.torn, 10 + 1 + 4);
	assert_int_equal(w.rep.flows, 21 - 15);
	check(&w);
	bind_all(&w);
	static const uint8_t kept[21] = {[10] = 1, [11] = 1, [12] = 1, [13] = 1, [15] = 1, [19] = 1};
	for (uint32_t i = 0; i < 21; i++)
		assert_int_equal(is_live(head_of(w.fs, i)), kept[i]);
	/* The mended ones end in time. */
	assert_int_equal(sleep_s(&w, 122), 5);
	assert_int_equal(sleep_s(&w, 200), 1);
	world_close(&w);
}

/* A name table that is damaged takes its flows with it, and nothing else. */
static void test_torn_names(void **state)
{
	(void)state;
	struct world w;
	static const size_t at[] = {0, offsetof(struct name_entry, id) + 2, offsetof(struct name_entry, site),
		offsetof(struct name_entry, kind), offsetof(struct name_entry, identity),
		offsetof(struct name_entry, text), offsetof(struct name_entry, text) + FS_NAME_MAX,
		offsetof(struct name_entry, gone)};
	for (size_t k = 0; k < sizeof(at) / sizeof(at[0]); k++) {
		world_new(&w, path, 1000);
		struct tuple t = tup(IPPROTO_UDP, "10.0.1.5", 1, WEB, 53);
		begin(&w, w.site_a, w.a1, t, NULL);
		begin(&w, w.site_b, w.b1, t, NULL);
		edit(NAMES_AT + FS_SLOT(w.a1) * sizeof(struct name_entry) + at[k], "z", 1);
		fs_id old = w.a1;
		reopen(&w);
		check(&w);
		assert_int_equal(w.rep.torn, 1);
		bind_all(&w);
		/* Its slot is free, but nothing leads to the flow of before. */
		assert_int_equal(find(&w, w.site_a, t).flow, FS_NONE);
		assert_int_not_equal(find(&w, w.site_b, t).flow, FS_NONE);
		(void)old;
		world_close(&w);

		/* The site's own name: its tunnels go with it. */
		world_new(&w, path, 1000);
		begin(&w, w.site_a, w.a1, t, NULL);
		begin(&w, w.site_b, w.b1, t, NULL);
		edit(NAMES_AT + FS_SLOT(w.site_a) * sizeof(struct name_entry) + at[k], "z", 1);
		reopen(&w);
		check(&w);
		assert_int_equal(w.rep.torn, 1);
		bind_all(&w);
		assert_int_equal(find(&w, w.site_a, t).flow, FS_NONE);
		assert_int_not_equal(find(&w, w.site_b, t).flow, FS_NONE);
		world_close(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_adopt),
		cmocka_unit_test(test_names_while_away),
		cmocka_unit_test(test_max_changes),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_torn),
		cmocka_unit_test(test_torn_names),
	};
	return cmocka_run_group_tests(tests, arena_setup, arena_teardown);
}
