// The chat: lines that were said, and behind them those of this page that wait to be.

import { failure } from "./words.js";

const KEPT_LINES = 100;

/** `send(event, payload)` resolves with the server's answer, once there is one, or rejects as `client.emit()` does. */
export class ChatView {
  #lines;
  #waiting;
  #send;
  #makeTime;
  #mine = new Set();
  #isConnected = false;

  constructor({ lines, waiting, send, makeTime }) {
    this.#lines = lines;
    this.#waiting = waiting;
    this.#send = send;
    this.#makeTime = makeTime;
  }

  /** Lines of the server, which may be shown already. */
  show(lines) {
    for (const line of lines) {
      if (this.#find(line.id)) continue;
      const item = document.createElement("li");
      item.dataset.id = String(line.id);
      item.classList.toggle("mine", this.#mine.has(line.id));
      item.append(element("b", line.name), this.#makeTime(line.t * 1000), element("span", line.text));
      this.#keepingTheEnd(() => this.#lines.append(item));
    }
    while (this.#lines.children.length > KEPT_LINES) this.#lines.firstElementChild.remove();
  }

  forget() {
    this.#lines.replaceChildren();
    this.#mine.clear();
  }

  /** Shows the line as waiting until the server has answered it. */
  say(name, text) {
    const item = document.createElement("li");
    const note = element("small", "");
    item.append(element("b", name), note, element("span", text));
    this.#keepingTheEnd(() => this.#waiting.append(item), true);
    void this.#submit({ name, text, item, note, mayBeSent: false });
  }

  connectionChanged(isConnected) {
    this.#isConnected = isConnected;
    for (const item of this.#waiting.children) item.line?.noteState();
  }

  async #submit(line) {
    const { name, text, item, note } = line;
    item.dataset.state = "waiting";
    item.querySelector("p")?.remove();
    item.line = line;
    line.noteState = () => {
      line.mayBeSent ||= this.#isConnected;
      note.textContent = this.#isConnected ? "sending" : "waits for the connection";
    };
    line.noteState();
    let problem;
    try {
      const answer = await this.#send("chat", { name, text });
      if (answer.ok) return this.#said(item, answer.id);
      problem = answer.error;
    } catch (error) {
      // Another transport was chosen meanwhile, which takes another client; what was never sent goes by that.
      if (error.code === "closed" && !line.mayBeSent) return this.#submit(line);
      problem = failure(error);
    }
    this.#keepingTheEnd(() => this.#offer(line, problem));
  }

  #said(item, id) {
    item.remove();
    this.#mine.add(id);
    this.#find(id)?.classList.add("mine");
  }

  /** The line is not given up: whoever wrote it decides. */
  #offer(line, problem) {
    const { item, note } = line;
    item.line = undefined;
    item.dataset.state = "failed";
    note.textContent = "not confirmed";
    const again = element("button", "Send again");
    const discard = element("button", "Discard");
    again.type = discard.type = "button";
    again.addEventListener("click", () => void this.#submit({ ...line, mayBeSent: false }));
    discard.addEventListener("click", () => item.remove());
    const offer = element("p", `${problem} `);
    offer.append(again, discard);
    offer.setAttribute("role", "alert");
    item.append(offer);
  }

  #find(id) {
    return this.#lines.querySelector(`[data-id="${Number(id)}"]`);
  }

  #keepingTheEnd(change, always = false) {
    const view = this.#lines.parentElement;
    const atEnd = always || view.scrollHeight - view.scrollTop - view.clientHeight < 40;
    change();
    if (atEnd) view.scrollTop = view.scrollHeight;
  }
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}
