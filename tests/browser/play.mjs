// Plays one recording in a real Chromium, the way a player embedded in another site does.
//
//   node play.mjs RESOLVER_URL [SCREENSHOT.png]
//
// RESOLVER_URL answers with JSON that carries `authenticatedUrl`. The recording behind it is put
// into an <audio> element on a page of another site, played, sought to 80 % and played on; once
// as it is, once with crossorigin=anonymous. The second page also fetches ranges from script.
//
// One JSON object goes to stdout. Exit status 0 means that everything held; 1 that something did
// not, with the reasons in `errors` and on stderr. CHROMIUM names the browser, /usr/bin/chromium
// unless told otherwise.

import { createServer } from "node:http";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { chromium } from "playwright-core";

const TIME_LIMIT_MS = 60_000;
const STEP_LIMIT_MS = 12_000; // One wait inside the page: metadata, `seeked`, half a second of sound.
const ADVANCE_S = 0.5;
const SEEK_TO = 0.8;

const result = { ok: false, browser: null, passes: [], media: [], preflights: [], errors: [] };
const cleanups = [];
let over = false; // What goes wrong because the browser is being closed is no finding.

function fail(message) {
  if (!over) result.errors.push(message);
}

function check(condition, message) {
  if (!condition) fail(message);
}

function reason(error) {
  return String(error.message).split("\n")[0].replace(/^page\.evaluate: (Error: )?/, "");
}

function escapeAttribute(text) {
  return text.replace(/&/g, "&amp;").replace(/"/g, "&quot;").replace(/</g, "&lt;");
}

async function resolveRecording(resolverUrl) {
  const response = await fetch(resolverUrl, {
    redirect: "manual",
    signal: AbortSignal.timeout(STEP_LIMIT_MS),
  }).catch((error) => {
    throw new Error(`the resolver cannot be reached: ${error.cause?.message ?? error.message}`);
  });
  const text = await response.text();
  if (response.status !== 200) {
    throw new Error(`the resolver answered ${response.status}: ${text.slice(0, 200)}`);
  }
  let url;
  try {
    url = JSON.parse(text).authenticatedUrl;
  } catch {
    throw new Error(`the resolver's answer is not JSON: ${text.slice(0, 200)}`);
  }
  if (typeof url !== "string" || !/^https?:\/\//.test(url)) {
    throw new Error("the resolver's answer has no usable authenticatedUrl");
  }
  return url;
}

// The page is on another *site* than the recording, not merely on another port: `localhost` where
// the recording is on an address, and the other way round.
async function servePages(recordingUrl) {
  const server = createServer((request, response) => {
    const pass = new URL(request.url, "http://page").pathname;
    const crossOrigin = { "/plain": "", "/cors": " crossorigin=anonymous" }[pass];
    if (crossOrigin === undefined) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { "Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store" });
    response.end(
      `<!doctype html><html lang=en><meta charset=utf-8><title>Call recording</title>
<link rel=icon href="data:,"><body style="font:16px sans-serif;margin:24px">
<p>Call recording</p>
<audio controls preload=metadata${crossOrigin} style="width:480px" src="${escapeAttribute(recordingUrl)}"></audio>`,
    );
  });
  await new Promise((done, failed) => server.once("error", failed).listen(0, "127.0.0.1", done));
  cleanups.push(() => {
    server.closeAllConnections?.();
    server.close();
  });
  const host = new URL(recordingUrl).hostname === "localhost" ? "127.0.0.1" : "localhost";
  return `http://${host}:${server.address().port}`;
}

async function startBrowser() {
  const profile = await mkdtemp(path.join(tmpdir(), "player-profile-"));
  cleanups.push(() => rm(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 }));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    headless: true,
    viewport: { width: 560, height: 180 },
    timeout: 30_000,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--autoplay-policy=no-user-gesture-required",
    ],
  });
  cleanups.push(() => context.close());
  result.browser = context.browser()?.version() ?? null;
  return context;
}

// Notes every request for the recording, its answer, and every CORS preflight. This listens to the
// DevTools protocol itself: only there are preflights and answers out of the browser's cache told.
async function watch(context, page, record, recordingUrl) {
  const devtools = await context.newCDPSession(page);
  const seen = new Map(); // By request: some of its parts are told before the request itself is.
  const part = (id) => seen.get(id) ?? seen.set(id, {}).get(id);
  const named = (headers) =>
    Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));

  devtools.on("Network.requestWillBeSent", ({ requestId, request, type, initiator }) => {
    if (request.url !== recordingUrl) return;
    const entry = part(requestId);
    entry.asked = named(request.headers);
    if (initiator.type === "preflight") {
      entry.list = result.preflights;
    } else {
      entry.list = result.media;
      entry.by = type.toLowerCase();
    }
    entry.during = record.step;
  });
  devtools.on("Network.requestWillBeSentExtraInfo", ({ requestId, headers }) => {
    part(requestId).sent = named(headers);
  });
  devtools.on("Network.responseReceived", ({ requestId, response }) => {
    const entry = part(requestId);
    entry.status = response.status;
    entry.fromCache = response.fromDiskCache ?? false;
    entry.answered = named(response.headers);
  });
  devtools.on("Network.responseReceivedExtraInfo", ({ requestId, statusCode, headers }) => {
    const entry = part(requestId);
    entry.received = { status: statusCode, ...named(headers) };
  });
  devtools.on("Network.loadingFailed", ({ requestId, canceled, errorText, corsErrorStatus }) => {
    // The player gives requests up as soon as it has enough; that is no failure of the server's.
    if (!canceled) part(requestId).failure = corsErrorStatus?.corsError ?? errorText;
  });
  await devtools.send("Network.enable");
  await devtools.send("Network.clearBrowserCache"); // What an earlier pass fetched must not answer this one.
  page.on("pageerror", (error) => fail(`${record.pass}: the page failed: ${error.message}`));

  // `range` and `contentRange` are the player's view. `sent` is what went over the wire: the cache
  // in between cuts off what it has already, and adds If-Range.
  return () => {
    for (const { list, by, during, asked, sent, answered, received, status, fromCache, failure } of seen.values()) {
      if (list === result.media) {
        list.push({
          pass: record.pass,
          by,
          during,
          range: asked.range ?? sent?.range ?? null,
          status: status ?? received?.status ?? null,
          contentRange: answered?.["content-range"] ?? null,
          contentLength: answered?.["content-length"] ?? null,
          contentType: answered?.["content-type"] ?? null,
          etag: answered?.etag ?? null,
          fromCache: fromCache ?? false,
          sent: sent ? { range: sent.range ?? null, ifRange: sent["if-range"] ?? null } : null,
          failure: failure ?? null,
        });
      } else if (list === result.preflights) {
        list.push({
          pass: record.pass,
          headers: { ...asked, ...sent }["access-control-request-headers"] ?? null,
          status: status ?? received?.status ?? null,
          allowHeaders: { ...received, ...answered }["access-control-allow-headers"] ?? null,
          failure: failure ?? null,
        });
      }
    }
  };
}

// These run in the page.
const inPage = {
  prepare: ({ limit }) => {
    const audio = document.querySelector("audio");
    const state = (window.player = { audio, samples: [], sampling: false });
    const note = () => { if (state.sampling) state.samples.push(audio.currentTime); };
    audio.addEventListener("timeupdate", note);
    setInterval(note, 20);
    state.seeks = 0;
    audio.addEventListener("seeked", () => {
      state.seeks += 1;
      state.sampling = true;
    });
    state.until = (what, holds) => new Promise((done, failed) => {
      const began = performance.now();
      const look = () => {
        if (audio.error) {
          failed(new Error(`${what}: media error ${audio.error.code}: ${audio.error.message}`));
        } else if (holds()) {
          done();
        } else if (performance.now() - began > limit) {
          failed(new Error(`${what}: not within ${limit} ms (at ${audio.currentTime} s, readyState `
            + `${audio.readyState}, networkState ${audio.networkState}, paused ${audio.paused})`));
        } else {
          setTimeout(look, 10);
        }
      };
      look();
    });
    return state.until("metadata", () => audio.readyState >= HTMLMediaElement.HAVE_METADATA)
      .then(() => audio.duration);
  },
  playOn: async ({ advance }) => {
    const { audio, until } = window.player;
    const from = audio.currentTime;
    await audio.play();
    await until(`play ${advance} s on from ${from} s`, () => audio.currentTime >= from + advance);
    return { from, to: audio.currentTime };
  },
  seek: async ({ to }) => {
    const { audio, until } = window.player;
    const seeks = window.player.seeks;
    const seekable = audio.seekable.length ? audio.seekable.end(audio.seekable.length - 1) : 0;
    audio.currentTime = to;
    await until(`seek to ${to} s (seekable up to ${seekable} s)`, () => window.player.seeks > seeks);
    return { landed: audio.currentTime, seekable };
  },
  finish: () => {
    const { audio, samples } = window.player;
    audio.pause();
    return {
      at: audio.currentTime,
      lowest: Math.min(...samples),
      samples: samples.length,
      buffered: Array.from({ length: audio.buffered.length }, (_, i) => [audio.buffered.start(i), audio.buffered.end(i)]),
    };
  },
  fetchRange: async ({ url, range }) => {
    const response = await fetch(url, { headers: { Range: range }, cache: "no-store" });
    const body = await response.arrayBuffer();
    return {
      range,
      status: response.status,
      type: response.type,
      contentRange: response.headers.get("Content-Range"),
      acceptRanges: response.headers.get("Accept-Ranges"),
      contentLength: response.headers.get("Content-Length"),
      etag: response.headers.get("ETag"),
      bytes: body.byteLength,
    };
  },
};

async function playThrough(context, pageOrigin, pass, recordingUrl, screenshot) {
  const record = { pass, step: "load" };
  result.passes.push(record);
  const page = await context.newPage();
  const report = await watch(context, page, record, recordingUrl);
  try {
    await page.goto(`${pageOrigin}/${pass}`, { timeout: STEP_LIMIT_MS, waitUntil: "domcontentloaded" });
    record.duration = await page.evaluate(inPage.prepare, { limit: STEP_LIMIT_MS });
    if (!Number.isFinite(record.duration)) throw new Error(`the duration is ${record.duration}: the length is not known`);
    const target = record.duration * SEEK_TO;
    if (record.duration - target < 2 * ADVANCE_S) {
      throw new Error(`${record.duration} s is too short a recording for this test`);
    }

    record.step = "play";
    record.start = await page.evaluate(inPage.playOn, { advance: ADVANCE_S });
    record.step = "seek";
    record.seek = { target, ...(await page.evaluate(inPage.seek, { to: target })) };
    check(
      Math.abs(record.seek.landed - target) < ADVANCE_S,
      `${pass}: the seek to ${target} s ended at ${record.seek.landed} s`,
    );
    check(record.seek.seekable >= target, `${pass}: seekable only up to ${record.seek.seekable} s`);
    record.after = await page.evaluate(inPage.playOn, { advance: ADVANCE_S });
    record.end = await page.evaluate(inPage.finish);
    check(
      record.end.samples > 0 && record.end.lowest >= target - 0.1 && record.end.at >= target + ADVANCE_S,
      `${pass}: after the seek to ${target} s the player went from ${record.end.lowest} s to ${record.end.at} s`,
    );
    if (screenshot) await page.screenshot({ path: screenshot });

    if (pass === "cors") {
      record.step = "fetch";
      await fetchFromScript(page, record, recordingUrl);
    }
    record.step = "done";
  } catch (error) {
    fail(`${pass}: ${reason(error)}`);
  } finally {
    await page.close().catch(() => {});
    report();
  }
  if (record.fetches) checkPreflights(pass);
  checkMedia(pass);
}

// A range that counts from the start needs no preflight by the Fetch standard; a suffix range
// does, so the second of these sees whether the server answers preflights.
async function fetchFromScript(page, record, url) {
  record.fetches = [];
  for (const range of ["bytes=0-99", "bytes=-100"]) {
    const got = await page.evaluate(inPage.fetchRange, { url, range }).catch((error) => {
      throw new Error(`fetch with Range: ${range} failed: ${reason(error)}`);
    });
    record.fetches.push(got);
    const said = `a fetch of ${range}`;
    check(got.status === 206, `cors: ${said} answered ${got.status} instead of 206`);
    check(got.contentRange !== null, `cors: ${said}: Content-Range cannot be read from script`);
    check(got.acceptRanges === "bytes", `cors: ${said}: Accept-Ranges reads ${got.acceptRanges}`);
    check(got.etag !== null, `cors: ${said}: ETag cannot be read from script`);
    check(got.bytes === 100, `cors: ${said} brought ${got.bytes} bytes`);
    const size = Number(/\/(\d+)$/.exec(got.contentRange ?? "")?.[1]);
    const wanted = range === "bytes=0-99" ? `bytes 0-99/${size}` : `bytes ${size - 100}-${size - 1}/${size}`;
    check(got.contentRange === wanted, `cors: ${said} carries Content-Range: ${got.contentRange}`);
  }
}

function checkPreflights(pass) {
  const preflights = result.preflights.filter((preflight) => preflight.pass === pass);
  check(
    preflights.some(({ headers, status }) => /\brange\b/i.test(headers ?? "") && status >= 200 && status < 300),
    `${pass}: no preflight for Range was seen to succeed: ${JSON.stringify(preflights)}`,
  );
}

// No request fails, and every answer the player got is a 206 that starts where it asked it to.
function checkMedia(pass) {
  const requests = result.media.filter((entry) => entry.pass === pass);
  for (const { by, range, failure } of requests) {
    check(failure === null, `${pass}: the request of ${by} with Range: ${range} failed: ${failure}`);
  }
  const answers = requests.filter(({ by, status }) => by === "media" && status !== null);
  check(answers.length > 0, `${pass}: the player got no answer`);
  for (const { status, range, contentRange } of answers) {
    const said = `${pass}: the player's request with Range: ${range}`;
    check(status === 206, `${said} was answered ${status} instead of 206`);
    const asked = /^bytes=(\d+)-(\d*)$/.exec(range ?? "");
    const given = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(contentRange ?? "");
    check(
      asked && given && asked[1] === given[1] && Number(given[2]) < Number(given[3]),
      `${said} was answered with Content-Range: ${contentRange}`,
    );
  }
}

async function run(resolverUrl, screenshot) {
  const recordingUrl = new URL(await resolveRecording(resolverUrl)).href;
  const pageOrigin = await servePages(recordingUrl);
  const context = await startBrowser();
  await playThrough(context, pageOrigin, "plain", recordingUrl, screenshot);
  await playThrough(context, pageOrigin, "cors", recordingUrl);
}

async function cleanUp() {
  for (const step of cleanups.reverse()) {
    try {
      await step();
    } catch (error) {
      process.stderr.write(`while cleaning up: ${error.message}\n`);
    }
  }
}

const [resolverUrl, screenshot, ...rest] = process.argv.slice(2);
if (!resolverUrl || rest.length > 0) {
  process.stderr.write("usage: node play.mjs RESOLVER_URL [SCREENSHOT.png]\n");
  process.exit(1);
}

let timer;
const limit = new Promise((_, failed) => {
  timer = setTimeout(() => failed(new Error(`not done within ${TIME_LIMIT_MS / 1000} s`)), TIME_LIMIT_MS);
});
try {
  await Promise.race([run(resolverUrl, screenshot), limit]);
} catch (error) {
  fail(String(error.message).trim().slice(0, 2_000));
}
over = true;
clearTimeout(timer);

result.ok = result.errors.length === 0;
const status = result.ok ? 0 : 1;
for (const message of result.errors) process.stderr.write(`${message}\n`);
await new Promise((done) => process.stdout.write(`${JSON.stringify(result, null, 2)}\n`, done));

// A browser that will not close is killed by its driver as this process exits.
setTimeout(() => process.exit(status), 5_000);
await cleanUp();
process.exit(status);
