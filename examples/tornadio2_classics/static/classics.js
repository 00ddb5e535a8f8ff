"use strict";

const transport = new URLSearchParams(location.search).get("transport");
const options = transport ? { transports: [transport] } : {};
const root = io("/", options);
const chat = io("/chat", options);
const ping = io("/ping", options);
const transports = io("/transports", options);

const element = (id) => document.getElementById(id);
const clock = (date) => [date.getHours(), date.getMinutes(), date.getSeconds(), date.getMilliseconds()];
const asDate = (parts) => new Date(new Date().setHours(...parts));

function showTimes(id, client, server) {
  const sent = asDate(client);
  element(id).textContent = `Ping: ${Date.now() - sent} ms. C2S: ${asDate(server) - sent} ms.`;
}

function showLine(id, line) {
  element(id).textContent += `${line}\n`;
}

function sendFrom(form, socket) {
  element(form).addEventListener("submit", (event) => {
    event.preventDefault();
    const { line } = event.target.elements;
    if (line.value) socket.send(line.value);
    line.value = "";
  });
}

ping.on("message", ({ client, server }) => showTimes("ping", client, server));
chat.on("message", (line) => showLine("chat", line));
transports.on("message", (line) => showLine("transports", line));
sendFrom("chat-form", chat);
sendFrom("transports-form", transports);

function beat() {
  root.volatile.emit("ping", clock(new Date()), (client, server) => showTimes("ackping", client, server));
  ping.volatile.send({ client: clock(new Date()) });
  root.volatile.emit("stats", (stats) => {
    element("stats").textContent = JSON.stringify(stats, null, 2);
  });
}
root.on("connect", beat);
setInterval(beat, 2000);
