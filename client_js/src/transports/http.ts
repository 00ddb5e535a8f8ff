import { SEPARATOR } from "./records.js";

/** Where a request goes and what it carries. */
export interface HttpRequest {
  readonly url: string;
  readonly extraHeaders?: Readonly<Record<string, string>>;
  readonly withCredentials?: boolean;
  /** Node.js only; browsers keep their own. */
  readonly cookies?: CookieJar | undefined;
  /** Of a `POST`; with an empty one the request is a `GET`. */
  readonly body: string;
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

/** An answer that is an error, or an Error: the response broke off, or never came. */
export type Failure = ErrorAnswer | (Error & { readonly status?: undefined; readonly responseText?: undefined });

/**
 * Makes a request. Resolves at the end of the response, with the answer where it is an error; rejects where it
 * breaks off.
 *
 * - `onText`: what of the response has come since the last call, the first time an empty text, with the head; empty
 *   too where bytes have come that do not yet make a text.
 */
export type Http = (
  request: HttpRequest,
  signal: AbortSignal,
  onText: (text: string) => void,
) => Promise<ErrorAnswer | undefined>;

/** After the call of an `Abort`, no callback comes. */
export type Abort = () => void;

/** As `Http`, with callbacks: `onEnd` comes once, last, and neither of them before this returns. */
export function exchange(
  http: Http,
  request: HttpRequest,
  onEnd: (failure?: Failure) => void,
  onText?: (text: string) => void,
): Abort {
  const controller = new AbortController();
  const { signal } = controller;
  const end = (failure?: Failure): void => {
    if (!signal.aborted) onEnd(failure);
  };
  http(request, signal, (text) => signal.aborted || onText?.(text)).then(end, end);
  return () => controller.abort();
}

export const viaFetch: Http = async ({ url, extraHeaders, withCredentials, cookies, body }, signal, onText) => {
  const headers = new Headers(extraHeaders);
  cookies?.appendCookies(headers);
  const response = await fetch(url, {
    method: body ? "POST" : "GET",
    body: body || null,
    headers,
    signal,
    cache: "no-store",
    // What XMLHttpRequest does: cookies go to our own origin in any case.
    credentials: withCredentials ? "include" : "same-origin",
    // Lets the browser finish a close packet after the page is gone; it allows 64 KiB in all.
    keepalive: !!body && body.length < 64,
  });
  // Headers.getSetCookie() came with Node.js 19.7.
  cookies?.parseCookies(response.headers.getSetCookie?.() ?? []);
  if (!response.ok) {
    const responseText = await response.text().catch(() => "");
    return { status: response.status, responseText, getResponseHeader: (name) => response.headers.get(name) };
  }
  onText("");
  // A byte order mark is not ours to swallow: it would be part of a message.
  const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    // At the end, half a character makes a text too.
    onText(utf8.decode(value, { stream: !done }));
    if (done) return undefined;
  }
};

export const viaXhr: Http = ({ url, extraHeaders, withCredentials, body }, signal, onText) =>
  new Promise((resolve, reject) => {
    const xhr = new XMLHttpRequest();
    let taken = 0;
    const take = (end: number): void => onText(xhr.responseText.slice(taken, (taken = end)));
    const isOk = (): boolean => xhr.status >= 200 && xhr.status < 300;
    xhr.open(body ? "POST" : "GET", url);
    xhr.withCredentials = !!withCredentials;
    for (const name in extraHeaders) xhr.setRequestHeader(name, extraHeaders[name] as string);
    // That is what browsers say of a text; React Native says nothing, and would not send it.
    if (body) xhr.setRequestHeader("content-type", "text/plain;charset=UTF-8");
    xhr.onreadystatechange = xhr.onprogress = () => {
      // Only up to the last separator: what follows may end in half a character, which reads differently when the
      // rest is there.
      if (xhr.readyState < 4 && isOk()) take(Math.max(taken, xhr.responseText.lastIndexOf(SEPARATOR) + 1));
    };
    xhr.onload = () => {
      if (!isOk()) return resolve(xhr);
      take(xhr.responseText.length);
      resolve(undefined);
    };
    xhr.onerror = xhr.onabort = xhr.ontimeout = (event) => reject(new Error(event.type));
    signal.onabort = () => xhr.abort();
    xhr.send(body || null);
  });

const viaNothing: Http = async () => {
  throw new Error("no fetch or XMLHttpRequest that can stream");
};

/** The way this platform can read a response while it comes. */
export function chooseHttp(wanted?: "fetch" | "xhr"): Http {
  const canFetch =
    typeof fetch === "function" &&
    typeof TextDecoder === "function" &&
    // React Native has fetch, and no body to read.
    typeof Response === "function" &&
    "body" in Response.prototype;
  if (wanted !== "xhr" && canFetch) return viaFetch;
  return wanted !== "fetch" && typeof XMLHttpRequest === "function" ? viaXhr : viaNothing;
}
