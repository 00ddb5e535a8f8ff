// The network between browser and server: one TCP port that passes everything on, until told otherwise.
import net from "node:net";

/**
 * `target`: a URL whose host and port everything goes to. Modes:
 *
 * - `pass`: as if it were not there; what `silence` held back flows on, as TCP would do it.
 * - `silence`: nothing passes in either direction, nothing closes, new connections are accepted and hear nothing: the
 *   cable is pulled.
 * - `strand`: what is open stays silent for ever, new connections pass: another network, or a NAT that has forgotten.
 * - `refuse`: what is open is reset, new connections are too: the machine is there and nothing listens.
 * - `drop`: what is open is reset, new connections pass.
 */
export async function startTcpProxy(target) {
  const { hostname, port, protocol } = new URL(target);
  const pairs = new Set();
  let mode = "pass";

  const server = net.createServer({ pauseOnConnect: true, noDelay: true }, (near) => {
    if (mode === "refuse") return near.resetAndDestroy();
    const far = net.connect({ host: hostname, port: Number(port), noDelay: true });
    const pair = { near, far, isStranded: false };
    pairs.add(pair);
    far.pause();
    for (const [one, other] of [[near, far], [far, near]]) {
      one.on("data", (chunk) => {
        // The rest waits in the kernels, as it would without us.
        if (!other.write(chunk)) one.pause();
      });
      other.on("drain", () => isPassing(pair) && one.resume());
      one.on("end", () => other.end());
      one.on("error", () => other.resetAndDestroy());
      one.on("close", () => pairs.delete(pair));
    }
    if (mode === "pass") resume(pair);
  });
  server.on("error", (error) => {
    throw error;
  });

  const isPassing = (pair) => mode === "pass" && !pair.isStranded;
  const each = (act) => {
    for (const { near, far } of pairs) for (const one of [near, far]) act(one);
  };
  const resume = ({ near, far }) => {
    near.resume();
    far.resume();
  };
  const setMode = (wanted) => {
    switch (wanted) {
      case "pass":
        mode = "pass";
        for (const pair of pairs) if (!pair.isStranded) resume(pair);
        return;
      case "silence":
        mode = "silence";
        return each((one) => one.pause());
      case "strand":
        for (const pair of pairs) pair.isStranded = true;
        each((one) => one.pause());
        mode = "pass";
        return;
      case "refuse":
        mode = "refuse";
        return each((one) => one.resetAndDestroy());
      case "drop":
        each((one) => one.resetAndDestroy());
        mode = "pass";
        return;
      default:
        throw new TypeError(`unknown mode "${wanted}"`);
    }
  };

  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `${protocol}//127.0.0.1:${server.address().port}`,
    setMode,
    connections: () => pairs.size,
    close() {
      server.close();
      each((one) => one.resetAndDestroy());
    },
  };
}
