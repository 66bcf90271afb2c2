// The playground: asks the service that it came from, and shows everything that it answers.
import { bar, changes, codePoints, counts, element, marked, wellFormed } from "./render.js";

const EXAMPLES = {
  English: "Ada Lovelace met Charles Babbage in London. The Royal Society has her letters.",
  Deutsch: "Angela Merkel wurde in Hamburg geboren und arbeitete bei der Akademie der Wissenschaften in Berlin.",
  中文: "李白出生于碎叶城，后来住在长安。北京大学出版了他的诗集。",
  日本語: "徳川家康は江戸に幕府を開いた。",
  한국어: "세종대왕은 한양에서 훈민정음을 만들었다.",
  Русский: "Юрий Гагарин родился в деревне Клушино и работал в Звёздном городке.",
  العربية: "وُلد نجيب محفوظ في القاهرة ونال جائزة نوبل.",
};
const KINDS = 6;
const REASONS = {
  vote: "one language is clearly ahead",
  mixture: "several languages are close, so their adapters are mixed",
  fixed: "you chose the language",
  unknown: "a language without an adapter of its own",
  no_letters: "no letters: the model did not run",
  fallback: "nothing to tell the language by",
};
const LEVELS = [
  ["Without example sentences", ["entity"]],
  ["Without known names", ["context"]],
  ["Without both", []],
];

const $ = (id) => document.getElementById(id);
const languageNames = new Intl.DisplayNames(["en"], { type: "language", fallback: "code" });
let moved = false; // the slider
let labels = [];
let limit = Infinity;
let running = null;

const kindOf = (label) => `k${Math.max(0, labels.indexOf(label)) % KINDS}`;

function nameOf(language) {
  try {
    return languageNames.of(language) ?? language;
  } catch {
    return language; // an identifier that is no language code
  }
}

async function call(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: { "content-type": "application/json" } });
  const body = await answer.json().catch(() => ({ detail: `the server answered ${answer.status}` }));
  if (answer.ok) return body;
  const again = answer.headers.get("retry-after");
  throw new Error(body.detail + (again ? `; try again in ${again} s` : ""));
}

async function ask(text, more, signal) {
  const chosen = [...document.querySelectorAll("#labels input:checked")].map((box) => box.value);
  const asked = { texts: text, ...more };
  if (moved) asked.threshold = Number($("threshold").value); // else the model's own thresholds
  if ($("language").value) asked.language = $("language").value;
  if (chosen.length < labels.length) asked.labels = chosen;
  const body = await call("v1/extract", { method: "POST", body: JSON.stringify(asked), signal });
  return body.results[0];
}

async function run() {
  running?.abort(); // what nobody waits for is not computed
  running = new AbortController();
  const { signal } = running;
  const text = wellFormed($("input").value);
  $("error").hidden = true;
  $("status").textContent = "Extracting …";
  try {
    const result = await ask(text, { explain: true }, signal);
    show(text, result);
    const number = result.entities.length;
    $("status").textContent = `${number} ${number === 1 ? "entity" : "entities"} found.`;
    await compare(text, result, signal);
  } catch (error) {
    if (error.name === "AbortError") return;
    $("status").textContent = "";
    $("error").textContent = error instanceof TypeError ? "The server cannot be reached." : error.message;
    $("error").hidden = false;
  }
}

function show(text, result) {
  $("results").hidden = false;
  $("text").replaceChildren(...marked(text, result.entities, kindOf));
  setLanguage($("text"), result.language);
  showEntities(result.entities);
  showRoute(result.route);
  showNames(codePoints(text), result.knowledge.entities);
  showSentences(result.knowledge.neighbours);
  $("prompts").replaceChildren(...result.prompts.map((prompt) => element("pre", { dir: "auto", tabindex: 0 }, prompt)));
  $("levels").replaceChildren();
}

function setLanguage(node, language) {
  // Chinese and Japanese share code points that are drawn differently.
  if (language) node.lang = language;
  else node.removeAttribute("lang");
}

function showEntities(entities) {
  const rows = entities.map((entity, number) =>
    element(
      "tr",
      { "data-number": number },
      element("td", {}, element("span", { class: `label ${kindOf(entity.label)}` }, entity.label)),
      element("td", {}, element("bdi", {}, entity.text)),
      element("td", { class: "number" }, entity.score.toFixed(3)),
      element("td", { class: "number" }, String(entity.start)),
      element("td", { class: "number" }, String(entity.end)),
    ),
  );
  $("entities").tBodies[0].replaceChildren(...rows);
  $("entities").hidden = !rows.length;
}

function showRoute(route) {
  const ran = Object.entries(route.adapters).map(([name, weight]) => `${nameOf(name)} ${(100 * weight).toFixed(0)}%`);
  const reason = REASONS[route.reason] ?? route.reason;
  $("route").textContent = `Adapters: ${ran.join(", ") || "none"} (${reason}).`;
  const votes = Object.entries(route.votes).sort((a, b) => b[1] - a[1]);
  const shown = votes.filter(([, share], number) => share >= 0.005 || number < 3);
  $("votes").replaceChildren(...shown.map(([name, share]) => bar(nameOf(name), share)));
}

function showNames(points, names) {
  const rows = names.map((known) =>
    element(
      "tr",
      {},
      element("td", {}, element("bdi", {}, points.slice(known.start, known.end).join(""))),
      element("td", {}, element("bdi", {}, known.surface)),
      element("td", {}, counts(known)),
      element("td", { class: "number" }, known.similarity.toFixed(2)),
      element("td", { class: "number" }, `${known.outside} times`),
    ),
  );
  $("names").tBodies[0].replaceChildren(...rows);
  $("names").hidden = !rows.length;
  $("no-names").hidden = rows.length > 0;
}

function showSentences(neighbours) {
  const items = neighbours.map(({ sentence, similarity }) => {
    const text = element("bdi", {}, ...marked(sentence.text, sentence.entities, kindOf));
    setLanguage(text, sentence.language);
    const about = `${nameOf(sentence.language ?? "")}, similarity ${similarity.toFixed(2)}`;
    return element("li", {}, text, element("div", { class: "quiet" }, about));
  });
  $("sentences").replaceChildren(...items);
}

async function compare(text, full, signal) {
  const others = await Promise.all(LEVELS.map(([, levels]) => ask(text, { levels }, signal)));
  const columns = LEVELS.map(([title], number) => changes(title, full.entities, others[number].entities));
  $("levels").replaceChildren(...columns);
}

function count() {
  const size = codePoints($("input").value).length;
  $("count").textContent = `${size.toLocaleString("en")} of ${limit.toLocaleString("en")} characters`;
  $("go").disabled = size > limit;
}

function choose(number) {
  for (const row of $("entities").tBodies[0].rows) row.classList.toggle("chosen", row.dataset.number === number);
}

async function start() {
  for (const [name, text] of Object.entries(EXAMPLES)) {
    const button = element("button", { type: "button" }, name);
    button.addEventListener("click", () => {
      $("input").value = text;
      count();
      run();
    });
    $("examples").append(button);
  }
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  $("input").addEventListener("input", count);
  $("input").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run();
  });
  $("threshold").addEventListener("input", () => {
    moved = true;
    $("least").textContent = Number($("threshold").value).toFixed(2);
  });
  $("text").addEventListener("click", (event) => choose(event.target.closest("mark")?.dataset.number));
  try {
    const model = await call("v1/model");
    labels = model.labels.map((label) => label.name);
    limit = model.limits.characters;
    $("threshold").value = model.threshold;
    $("least").textContent = model.threshold.toFixed(2);
    $("model").textContent = `Model ${model.name}: ${labels.join(", ")} in ${model.languages.length} languages.`;
    for (const name of model.languages) $("language").append(element("option", { value: name }, nameOf(name)));
    for (const label of model.labels) {
      const box = element("input", { type: "checkbox", value: label.name, checked: "" });
      $("labels").append(element("label", { title: label.definition }, box, label.name));
    }
  } catch (error) {
    $("error").textContent = error.message;
    $("error").hidden = false;
  }
  count();
}

start();
