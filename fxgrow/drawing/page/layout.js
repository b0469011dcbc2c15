// Graphviz in a worker of its own, so that the page answers while it thinks. Where there are no workers it runs here.

const small = document.getElementById("graphviz").dataset.engine === "dagre"; // in a notebook

async function unpacked(id) { // compressed by gzip, in base64
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")));
}

const graphviz = {
  source: `"use strict";${small ? await unpacked("graphviz").then((found) => found.text()) : document.getElementById("graphviz").textContent}`,
  answers: `
    const loaded = fxgrowGraphviz.load();
    onmessage = async ({ data: text }) => {
      try {
        const found = await loaded, start = performance.now();
        postMessage({ svg: found.layout(text, "svg", "dot"), ms: performance.now() - start });
      } catch (error) { postMessage({ error: String(error) }); }
    };`,
  worker: null, // false: there are none
  asked: null, // what it is at
  here: null,
};

function worker() {
  if (graphviz.worker !== null) return graphviz.worker;
  try {
    const url = URL.createObjectURL(new Blob([graphviz.source, graphviz.answers], { type: "text/javascript" }));
    graphviz.worker = new Worker(url);
  } catch { return (graphviz.worker = false); }
  graphviz.worker.onmessage = ({ data: found }) => settle(found);
  graphviz.worker.onerror = (event) => { // it cannot be loaded
    event.preventDefault();
    graphviz.worker = false;
    const { text } = graphviz.asked ?? {};
    if (text) layHere(text).then(settle);
  };
  return graphviz.worker;
}

function settle(found) {
  const { done } = graphviz.asked;
  graphviz.asked = null;
  done(found);
}

// The picture of a DOT text: { svg, ms }, or { error }; or null where another text was asked for, or none, meanwhile.
function lay(text) {
  if (graphviz.asked?.text === text) return graphviz.asked.answer;
  stopLaying();
  const asked = { text };
  asked.answer = new Promise((done) => { asked.done = done; });
  graphviz.asked = asked;
  if (worker()) worker().postMessage(text);
  else layHere(text).then((found) => { if (graphviz.asked === asked) settle(found); });
  return asked.answer;
}

function stopLaying() { // Graphviz cannot be told to stop, but its worker can
  if (!graphviz.asked) return;
  if (graphviz.worker) { graphviz.worker.terminate(); graphviz.worker = null; }
  settle(null);
}

async function layHere(text) {
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done))); // the page says first that it is busy
  try {
    if (!graphviz.here) {
      const script = document.createElement("script");
      script.textContent = `{${graphviz.source}}`;
      document.head.append(script);
      graphviz.here = await globalThis.fxgrowGraphviz.load();
    }
    const start = performance.now();
    return { svg: graphviz.here.layout(text, "svg", "dot"), ms: performance.now() - start };
  } catch (error) { return { error: String(error) }; }
}
