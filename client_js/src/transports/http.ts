import { RecordDecoder, SEPARATOR } from "./records.js";

/** Where a request goes and what it carries besides its body. */
export interface HttpRequest {
  readonly url: string;
  readonly headers: Record<string, string>;
  readonly withCredentials: boolean;
  /** Node.js only; browsers keep their own. */
  readonly cookies?: CookieJar | undefined;
}

export interface CookieJar {
  appendCookies(headers: Headers): void;
  parseCookies(values: string[]): void;
}

/** An answer that is an error: the members of XMLHttpRequest that an application looks at in an error's context. */
export interface ErrorAnswer {
  readonly status: number;
  readonly responseText: string;
  getResponseHeader(name: string): string | null;
}

/**
 * How a response came to its end:
 * - `whole`: the server ended it, between two records.
 * - `cut`: it broke off, or never came.
 * - `refused`: the answer was an error.
 */
export type StreamEnd =
  | { readonly kind: "whole" }
  | { readonly kind: "cut"; readonly cause: unknown }
  | { readonly kind: "refused"; readonly answer: ErrorAnswer };

export interface StreamEvents {
  /** The head of the response is there, and it is no error. */
  onResponse(): void;
  /** Bytes have come, of whole records or not. */
  onData(): void;
  onRecord(record: string): void;
  /** Comes once, last. */
  onEnd(end: StreamEnd): void;
}

/** After the call of an `Abort`, no further event comes. */
export type Abort = () => void;

export interface Http {
  readonly name: "fetch" | "xhr";
  stream(request: HttpRequest, events: StreamEvents): Abort;
  /** `done` is called with nothing, or with what went wrong. */
  post(request: HttpRequest, body: string, done: (failure?: ErrorAnswer | Error) => void): Abort;
}

const POST_TYPE = "text/plain;charset=UTF-8";

async function send(request: HttpRequest, init: RequestInit): Promise<Response> {
  const headers = new Headers(request.headers);
  if (init.method === "POST") headers.set("content-type", POST_TYPE);
  request.cookies?.appendCookies(headers);
  const response = await fetch(request.url, {
    ...init,
    headers,
    cache: "no-store",
    // What XMLHttpRequest does: cookies go to our own origin in any case.
    credentials: request.withCredentials ? "include" : "same-origin",
  });
  // Headers.getSetCookie() came with Node.js 19.7.
  if (request.cookies && "getSetCookie" in response.headers) {
    request.cookies.parseCookies(response.headers.getSetCookie());
  }
  return response;
}

async function readError(response: Response): Promise<ErrorAnswer> {
  const responseText = await response.text().catch(() => "");
  return { status: response.status, responseText, getResponseHeader: (name) => response.headers.get(name) };
}

async function readRecords(response: Response, isOver: () => boolean, events: StreamEvents): Promise<StreamEnd> {
  if (!response.ok || !response.body) return { kind: "refused", answer: await readError(response) };
  events.onResponse();
  const reader = response.body.getReader();
  const decoder = new RecordDecoder();
  while (!isOver()) {
    const { done, value } = await reader.read();
    if (done || isOver()) break;
    events.onData();
    for (const record of decoder.push(value)) {
      if (isOver()) break;
      events.onRecord(record);
    }
  }
  return decoder.end() ? { kind: "whole" } : { kind: "cut", cause: "inside a record" };
}

const viaFetch: Http = {
  name: "fetch",

  stream(request, events) {
    const controller = new AbortController();
    let isOver = false;
    const end = (how: StreamEnd): void => {
      if (isOver) return;
      isOver = true;
      events.onEnd(how);
    };
    send(request, { method: "GET", signal: controller.signal })
      .then((response) => readRecords(response, () => isOver, events))
      .then(end, (cause: unknown) => end({ kind: "cut", cause }));
    return () => {
      isOver = true;
      controller.abort();
    };
  },

  post(request, body, done) {
    const controller = new AbortController();
    let isOver = false;
    const end = (failure?: ErrorAnswer | Error): void => {
      if (!isOver) done(failure);
    };
    // `keepalive` lets the browser finish a close packet after the page is gone; it allows 64 KiB in all.
    const keepalive = body.length < 64;
    send(request, { method: "POST", body, keepalive, signal: controller.signal })
      // Read to the end, or the connection is not used again.
      .then((response) => (response.ok ? response.text().then(() => undefined) : readError(response)))
      .then(end, end);
    return () => {
      isOver = true;
      controller.abort();
    };
  },
};

function openXhr(method: string, request: HttpRequest): XMLHttpRequest {
  const xhr = new XMLHttpRequest();
  xhr.open(method, request.url, true);
  for (const [name, value] of Object.entries(request.headers)) xhr.setRequestHeader(name, value);
  xhr.withCredentials = request.withCredentials;
  return xhr;
}

const isOk = (status: number): boolean => status >= 200 && status < 300;

const viaXhr: Http = {
  name: "xhr",

  stream(request, events) {
    const xhr = openXhr("GET", request);
    let isOver = false;
    let taken = 0;
    const take = (): void => {
      // Only up to the last separator: what follows may end in half a character, which reads differently
      // when the rest is there.
      const text = xhr.responseText;
      const last = text.lastIndexOf(SEPARATOR);
      if (last < taken) return;
      const records = text.slice(taken, last).split(SEPARATOR);
      taken = last + 1;
      for (const record of records) {
        if (isOver) return;
        events.onRecord(record);
      }
    };
    const end = (how: StreamEnd): void => {
      if (isOver) return;
      isOver = true;
      events.onEnd(how);
    };
    let hasHead = false;
    xhr.onreadystatechange = xhr.onprogress = () => {
      if (isOver || xhr.readyState < 2 || xhr.readyState > 3 || !isOk(xhr.status)) return;
      if (!hasHead) {
        hasHead = true;
        events.onResponse();
      }
      if (xhr.readyState < 3 || isOver) return;
      events.onData();
      take();
    };
    xhr.onload = () => {
      if (isOver) return;
      if (!isOk(xhr.status)) return end({ kind: "refused", answer: xhr });
      take();
      end(taken === xhr.responseText.length ? { kind: "whole" } : { kind: "cut", cause: "inside a record" });
    };
    xhr.onerror = xhr.onabort = xhr.ontimeout = (event) => end({ kind: "cut", cause: event.type });
    xhr.send();
    return () => {
      isOver = true;
      xhr.abort();
    };
  },

  post(request, body, done) {
    const xhr = openXhr("POST", request);
    let isOver = false;
    xhr.setRequestHeader("content-type", POST_TYPE);
    xhr.onload = () => isOver || done(isOk(xhr.status) ? undefined : xhr);
    xhr.onerror = xhr.onabort = xhr.ontimeout = (event) => isOver || done(new Error(event.type));
    xhr.send(body);
    return () => {
      isOver = true;
      xhr.abort();
    };
  },
};

/** The way this platform can read a response while it comes, or nothing. */
export function chooseHttp(wanted?: "fetch" | "xhr"): Http | undefined {
  const canFetch =
    typeof fetch === "function" &&
    typeof TextDecoder === "function" &&
    // React Native has fetch, and no body to read.
    typeof Response === "function" &&
    "body" in Response.prototype;
  if (wanted !== "xhr" && canFetch) return viaFetch;
  if (wanted !== "fetch" && typeof XMLHttpRequest === "function") return viaXhr;
  return undefined;
}
