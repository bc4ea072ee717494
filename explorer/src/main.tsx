import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { get, type Meta } from "./api";
import { keysOf, SharedContext, useJudging, useProgress } from "./hooks";
import { Judge } from "./judge";
import { MapView } from "./map";
import { go, lookOf, usePlace, type Tab } from "./place";
import { Rank } from "./rank";
import { Search } from "./search";
import "./style.css";

const VIEWS = { search: Search, judge: Judge, rank: Rank, map: MapView };

function App({ meta }: { meta: Meta }) {
  const place = usePlace();
  const [fault, setFault] = useState<string | null>(null);
  const fail = (error: unknown) => setFault(error instanceof Error ? error.message : String(error));
  const { progress, refresh } = useProgress(fail);
  const judging = useJudging(fail, refresh);
  useEffect(() => setFault(null), [place]);
  const View = VIEWS[place.tab];
  const tabs = (Object.keys(VIEWS) as Tab[]).filter((tab) => tab !== "map" || meta.has_sky_map);
  return (
    <SharedContext.Provider value={{ meta, progress, keys: keysOf(meta.labels), fail, ...judging }}>
      <header>
        <b class="brand">tidalkin</b>
        <span class="run">{meta.run}</span>
        <nav>
          {tabs.map((tab) => (
            <button key={tab} class={tab === place.tab ? "on" : ""} onClick={() => go(tab, withoutCount(lookOf(place.params)))}>
              {tab}
            </button>
          ))}
        </nav>
        <span class="counts">
          {Object.entries(progress?.counts ?? {}).map(([label, n]) => (
            <span key={label}>
              {label} <b>{n}</b>
            </span>
          ))}
        </span>
        <span class="who">{meta.who}</span>
      </header>
      {fault && (
        <p class="banner" role="alert">
          {fault} <button onClick={() => setFault(null)}>close</button>
        </p>
      )}
      <View {...place} />
    </SharedContext.Provider>
  );
}

function withoutCount(params: URLSearchParams): URLSearchParams {
  params.delete("k");
  return params;
}

const root = document.getElementById("app")!;
get<Meta>("api/meta")
  .then((meta) => {
    document.title = `${meta.run} · tidalkin`;
    render(<App meta={meta} />, root);
  })
  .catch((error) => render(<p class="banner">{error.message}</p>, root));
