import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { get, Outage, type Meta } from "./api";
import { keysOf, SharedContext, useJudging, useProgress } from "./hooks";
import { Judge } from "./judge";
import { MapView } from "./map";
import { changed, go, lookOf, usePlace, type Tab } from "./place";
import { Rank } from "./rank";
import { Search } from "./search";
import "./style.css";

const VIEWS = { search: Search, judge: Judge, rank: Rank, map: MapView };

interface Banner {
  text: string;
  isFault: boolean;
  isOutage: boolean; // it goes when the server answers again
}

function App({ meta }: { meta: Meta }) {
  const place = usePlace();
  const [banner, setBanner] = useState<Banner | null>(null);
  const fail = (error: unknown) =>
    setBanner({ text: error instanceof Error ? error.message : String(error), isFault: true, isOutage: error instanceof Outage });
  const tell = (text: string) => setBanner({ text, isFault: false, isOutage: false });
  const recover = () => setBanner((shown) => (shown?.isOutage ? null : shown));
  const { progress, outages, refresh } = useProgress(meta.digest, fail, recover);
  const judging = useJudging(fail, refresh);
  useEffect(() => setBanner(null), [place]);
  const View = VIEWS[place.tab];
  const tabs = (Object.keys(VIEWS) as Tab[]).filter((tab) => tab !== "map" || meta.has_sky_map);
  return (
    <SharedContext.Provider value={{ meta, progress, outages, keys: keysOf(meta.labels), fail, tell, ...judging }}>
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
            <button key={label} title={`Show the galaxies judged as ${label}`} onClick={() => go("search", judgedAs(place.params, label))}>
              <span>{label}</span> <b>{n}</b>
            </button>
          ))}
        </span>
        <span class="who">{meta.who}</span>
      </header>
      {banner && (
        <p class={banner.isFault ? "banner" : "banner news"} role={banner.isFault ? "alert" : "status"}>
          {banner.text} <button onClick={() => setBanner(null)}>close</button>
        </p>
      )}
      <View {...place} />
    </SharedContext.Provider>
  );
}

function judgedAs(params: URLSearchParams, label: string): URLSearchParams {
  return changed(withoutCount(lookOf(params)), { start: "labels", label });
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
