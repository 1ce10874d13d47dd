# ruff: noqa: E501  # tables are read row by row
"""Facts and words that the prompts are made of. Written for this study."""

from __future__ import annotations

CAPITALS = """
Albania Tirana Europe|Algeria Algiers Africa|Angola Luanda Africa|Argentina Buenos_Aires South_America
Armenia Yerevan Asia|Australia Canberra Oceania|Austria Vienna Europe|Azerbaijan Baku Asia
Bahrain Manama Asia|Bangladesh Dhaka Asia|Belarus Minsk Europe|Belgium Brussels Europe
Benin Porto-Novo Africa|Bhutan Thimphu Asia|Bolivia Sucre South_America|Botswana Gaborone Africa
Brazil Brasilia South_America|Bulgaria Sofia Europe|Cambodia Phnom_Penh Asia|Cameroon Yaounde Africa
Canada Ottawa North_America|Chad N'Djamena Africa|Chile Santiago South_America|China Beijing Asia
Colombia Bogota South_America|Croatia Zagreb Europe|Cuba Havana North_America|Cyprus Nicosia Europe
Denmark Copenhagen Europe|Ecuador Quito South_America|Egypt Cairo Africa|Estonia Tallinn Europe
Ethiopia Addis_Ababa Africa|Fiji Suva Oceania|Finland Helsinki Europe|France Paris Europe
Gabon Libreville Africa|Georgia Tbilisi Asia|Germany Berlin Europe|Ghana Accra Africa
Greece Athens Europe|Guyana Georgetown South_America|Haiti Port-au-Prince North_America|Honduras Tegucigalpa North_America
Hungary Budapest Europe|Iceland Reykjavik Europe|India New_Delhi Asia|Indonesia Jakarta Asia
Iran Tehran Asia|Iraq Baghdad Asia|Ireland Dublin Europe|Italy Rome Europe
Jamaica Kingston North_America|Japan Tokyo Asia|Jordan Amman Asia|Kenya Nairobi Africa
Kuwait Kuwait_City Asia|Laos Vientiane Asia|Latvia Riga Europe|Lebanon Beirut Asia
Liberia Monrovia Africa|Libya Tripoli Africa|Lithuania Vilnius Europe|Luxembourg Luxembourg Europe
Madagascar Antananarivo Africa|Malawi Lilongwe Africa|Malaysia Kuala_Lumpur Asia|Mali Bamako Africa
Malta Valletta Europe|Mexico Mexico_City North_America|Moldova Chisinau Europe|Mongolia Ulaanbaatar Asia
Morocco Rabat Africa|Mozambique Maputo Africa|Namibia Windhoek Africa|Nepal Kathmandu Asia
Nicaragua Managua North_America|Niger Niamey Africa|Nigeria Abuja Africa|Norway Oslo Europe
Oman Muscat Asia|Pakistan Islamabad Asia|Panama Panama_City North_America|Paraguay Asuncion South_America
Peru Lima South_America|Philippines Manila Asia|Poland Warsaw Europe|Portugal Lisbon Europe
Qatar Doha Asia|Romania Bucharest Europe|Russia Moscow Europe|Rwanda Kigali Africa
Senegal Dakar Africa|Serbia Belgrade Europe|Singapore Singapore Asia|Slovakia Bratislava Europe
Slovenia Ljubljana Europe|Somalia Mogadishu Africa|Spain Madrid Europe|Sudan Khartoum Africa
Sweden Stockholm Europe|Switzerland Bern Europe|Syria Damascus Asia|Thailand Bangkok Asia
Togo Lome Africa|Tunisia Tunis Africa|Turkey Ankara Asia|Uganda Kampala Africa
Ukraine Kyiv Europe|Uruguay Montevideo South_America|Venezuela Caracas South_America|Vietnam Hanoi Asia
Yemen Sanaa Asia|Zambia Lusaka Africa|Zimbabwe Harare Africa|Uzbekistan Tashkent Asia
"""

OPPOSITES = """
hot cold|big small|tall short|fast slow|happy sad|light dark|old young|rich poor|hard soft|wet dry
open closed|full empty|early late|loud quiet|clean dirty|strong weak|thick thin|wide narrow|deep shallow|high low
good bad|right wrong|true false|up down|left right|in out|on off|day night|black white|begin end
start stop|win lose|buy sell|push pull|love hate|laugh cry|give take|remember forget|arrive leave|accept refuse
above below|before after|inside outside|front back|first last|always never|more less|many few|near far|new old
cheap expensive|brave cowardly|calm nervous|careful careless|clever stupid|cruel kind|dangerous safe|difficult easy|
dead alive|asleep awake|absent present|ancient modern|artificial natural|beautiful ugly|bitter sweet|blunt sharp
bright dim|common rare|complex simple|cool warm|correct incorrect|curved straight|even odd|fat thin
fresh stale|generous selfish|gentle rough|guilty innocent|heavy light|honest dishonest|horizontal vertical|huge tiny
lazy active|legal illegal|long short|lucky unlucky|major minor|mature immature|maximum minimum|noisy quiet
north south|east west|patient impatient|polite rude|private public|proud humble|pure impure|quick slow
raw cooked|regular irregular|shiny dull|sick healthy|smooth rough|sour sweet|success failure|tight loose
victory defeat|war peace|wise foolish|victim attacker|ascend descend|attack defend|attract repel|borrow lend
build destroy|create destroy|decrease increase|divide multiply|expand contract|export import|float sink|freeze melt
"""

CATEGORIES = (
    "animals",
    "birds",
    "fish",
    "insects",
    "trees",
    "flowers",
    "fruits",
    "vegetables",
    "colors",
    "countries",
    "cities",
    "rivers",
    "mountains",
    "planets",
    "sports",
    "musical instruments",
    "tools",
    "pieces of furniture",
    "kinds of clothing",
    "jobs",
    "hobbies",
    "school subjects",
    "parts of the body",
    "kinds of food",
    "drinks",
    "desserts",
    "spices",
    "vehicles",
    "buildings",
    "rooms of a house",
    "things in a kitchen",
    "things in a garden",
    "things in an office",
    "languages",
    "board games",
    "kinds of weather",
    "emotions",
    "kinds of shoes",
    "kinds of books",
    "metals",
    "gemstones",
    "materials",
    "shapes",
    "first names",
    "family members",
    "farm animals",
    "wild animals",
    "sea animals",
    "dog breeds",
    "kinds of cheese",
    "kinds of bread",
    "electronic devices",
    "means of transport",
    "kinds of music",
    "dances",
    "crops",
    "holidays",
    "toys",
    "kinds of fabric",
    "ways to save energy",
)

PEOPLE = [
    "Anna",
    "Ben",
    "Clara",
    "David",
    "Emma",
    "Frank",
    "Grace",
    "Henry",
    "Iris",
    "Jack",
    "Kate",
    "Leo",
    "Maria",
    "Noah",
    "Olga",
    "Paul",
    "Rosa",
    "Sam",
    "Tina",
    "Victor",
]
TOWNS = [
    "Paris",
    "London",
    "Berlin",
    "Madrid",
    "Rome",
    "Oslo",
    "Vienna",
    "Prague",
    "Dublin",
    "Lisbon",
    "Athens",
    "Warsaw",
    "Boston",
    "Chicago",
    "Denver",
    "Tokyo",
    "Sydney",
    "Cairo",
    "Lima",
    "Toronto",
]
WORK = [
    "teacher",
    "doctor",
    "nurse",
    "baker",
    "farmer",
    "lawyer",
    "pilot",
    "painter",
    "singer",
    "writer",
    "driver",
    "cook",
    "tailor",
    "engineer",
    "chemist",
]

PRAISE = [
    "excellent",
    "wonderful",
    "fantastic",
    "amazing",
    "lovely",
    "superb",
    "brilliant",
    "delightful",
    "great",
    "perfect",
]
BLAME = [
    "terrible",
    "awful",
    "horrible",
    "dreadful",
    "poor",
    "disappointing",
    "boring",
    "broken",
    "useless",
    "disgusting",
]
REVIEWED = [
    "film",
    "book",
    "hotel",
    "restaurant",
    "phone",
    "concert",
    "game",
    "meal",
    "service",
    "laptop",
]
PRAISE_MORE = (
    "I would buy it again.",
    "I enjoyed every minute.",
    "It made my day.",
    "I recommend it to everyone.",
)
BLAME_MORE = (
    "I want my money back.",
    "I regret every minute.",
    "It ruined my day.",
    "I warn everyone about it.",
)

COPIED_SUBJECTS = [
    "the old farmer",
    "a young pilot",
    "my best friend",
    "the tired nurse",
    "our new teacher",
    "the little girl",
    "a hungry wolf",
    "the quiet student",
    "his older brother",
    "the village baker",
]
COPIED_VERBS = ["found", "carried", "painted", "lost", "sold", "cleaned", "watched", "repaired"]
COPIED_OBJECTS = [
    "a red bicycle",
    "the wooden door",
    "three silver coins",
    "a heavy box",
    "the broken clock",
    "an empty bottle",
    "the green lamp",
    "two small boats",
]
COPIED_PLACES = [
    "near the river",
    "after the storm",
    "in the morning",
    "behind the school",
    "on Monday",
    "at the market",
]

STORY_HEROES = [
    "fox",
    "sailor",
    "robot",
    "queen",
    "gardener",
    "dragon",
    "detective",
    "clown",
    "astronaut",
    "musician",
    "shepherd",
    "wizard",
    "thief",
    "painter",
]
STORY_TRAITS = ["lonely", "brave", "curious", "forgetful", "cheerful"]
STORY_PLACES = [
    "an old lighthouse",
    "a frozen city",
    "a deep forest",
    "a desert island",
    "a busy station",
]


def capitals() -> list[tuple[str, str, str]]:
    """Return (country, capital, continent)."""
    rows = [row.split() for row in CAPITALS.replace("\n", "|").split("|") if row.strip()]
    return [tuple(cell.replace("_", " ") for cell in row) for row in rows]  # type: ignore[misc]


def opposites() -> list[tuple[str, str]]:
    """Return (word, its opposite)."""
    rows = [row.split() for row in OPPOSITES.replace("\n", "|").split("|") if row.strip()]
    return [(row[0], row[1]) for row in rows]
