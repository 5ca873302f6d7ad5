"""Vocabulary for synthetic text: common words, most common first, and the words of agents."""

from typing import Final

COMMON: Final = tuple(
    """
the of and to in a is that for it was on are as with his they at be this from have or by one had
not but what all were when we there can an your which their said if do will each about how up
out them then she many some so these would other into has more her two like him see time could
no make than first been its who now people my made over did down only way find use may water
long little very after words called just where most know get through back much before go good
new write our used me man too any day same right look think also around another came come work
three word must because does part even place well such here take why things help put years
different away again off went old number great tell men say small every found still between name
should home big give air line set own under read last never us left end along while might next
sound below saw something thought both few those always looked show large often together asked
house world going want school important until form food keep children feet land side without boy
once animals life enough took sometimes four head above kind began almost live page got earth
need far hand high year mother light parts country father let night following picture being
study second soon story since white ever paper hard near sentence better best across during
today others however sure means knew try told young miles sun ways thing whole hear example
heard several change answer room sea against top turned learn point city play toward five using
himself usually money seen car morning given order run open group problem system program
question company government state information service data user users model result results value
values list type types names numbers field fields record records file files path key keys
version test tests error errors request requests response message messages process status date
size count total price amount account address email phone customer product products item items
report reports project projects team task tasks step steps plan plans goal action actions tool
tools agent agents memory context session event events history level low medium default option
options setting settings true false null none yes within general public license software copy
terms conditions either available required allowed possible necessary specific certain
individual local national international development management production education research
technology support security policy access control application interface function class method
object string integer return import define returns raises exception argument arguments parameter
parameters optional whether add remove update create delete insert select start stop begin
finish close send receive load save check verify build deploy release install configure monitor
analysis design review approve reject submit accept confirm cancel schedule meeting discuss
decision issue issues bug feature changes branch merge commit server client network database
query table column index cache queue worker thread disk cpu usage limit rate timeout retry
attempt failed success warning critical info debug trace log logs metric metrics average minimum
maximum percent percentage seconds minute minutes hour hours days week weeks month months
january february march april june july august september october november december monday tuesday
wednesday thursday friday saturday sunday afternoon evening weather temperature rain snow wind
north south east west street avenue road building floor office hotel restaurant airport station
flight train ticket passenger travel booking reservation arrival departure delivery shipping
invoice payment refund discount balance credit debit bank transfer currency dollar euro market
stock share trade risk growth revenue cost profit loss budget tax contract agreement party
parties rights obligation liability warranty damage notice provided subject applicable law
section document documents source code works based covered convey modify distribute permission
copyright holder purpose particular patent recipient person family friend health medical patient
doctor hospital treatment drug disease clinical trial evidence effect effects cause factor
increase decrease reduce improve prevent compare significant difference similar measure
measurement sample population energy power fuel gas oil carbon climate environment species plant
animal human cell protein gene brain heart blood body music film book author title chapter image
video audio language english german french spanish translate translation paragraph summary
summarize explain describe suggest recommend consider evaluate calculate estimate predict
generate search replace extract convert transform filter sort join split parse format validate
encode decode encrypt decrypt sign hash token secret password username login logout register
profile role admin owner member guest organization department employee manager director
president minister council committee court judge police army war peace election vote campaign
speech
""".split()
)

PEOPLE: Final = tuple(
    """
Ada Alex Amir Ana Ben Chen Dana Elif Emma Farid Grace Hiro Ines Ivan Jonas Kofi Lea Lin Lucia
Maya Mei Mia Noah Nora Omar Paula Priya Ravi Rosa Sam Sara Sofia Tom Uma Yuki Zoe
""".split()
)

CITIES: Final = tuple(
    """
Amsterdam Athens Austin Bangalore Barcelona Berlin Boston Cairo Chicago Copenhagen Delhi Dublin
Lagos Lisbon London Madrid Melbourne Milan Mumbai Nairobi Oslo Paris Porto Prague Rome Seattle
Seoul Singapore Stockholm Sydney Tokyo Toronto Vienna Warsaw Zurich
""".split()
)

TOOLS: Final = tuple(
    """
web_search read_file write_file run_tests execute_code send_email search_flights book_flight
search_hotels get_weather query_database create_ticket update_ticket list_events create_event
fetch_url summarize translate get_quote place_order calculator vector_search git_diff git_commit
browser_click take_screenshot
""".split()
)

STATUSES: Final = tuple(
    """
pending in_progress running waiting done completed failed cancelled blocked skipped approved
rejected open closed active idle
""".split()
)

KEYS: Final = tuple(
    """
messages plan steps status profile preferences context summary notes draft budget tokens cost
step counter attempts errors goal task tasks results cache session memory facts history settings
tool_calls tool_results current_step retries score progress owner assignee deadline title
location user
""".split()
)

TOPICS: Final = tuple(
    """\
the booking
the quarterly report
the failing test
the login page
the customer's refund
the deployment
the search results
the meeting notes
the database schema
the invoice
the shipping address
the user's question
the data set
the access request
the error log
the configuration file
the travel plan
the draft reply
the calendar
the budget
the API response
the test suite
the summary
the contract
the payment""".splitlines()
)

VERBS: Final = tuple(
    """\
check
review
update
summarize
compare
fix
verify
prepare
send
schedule
cancel
confirm
look up
collect
analyze
document
refactor
translate
download
clean up
publish
test
search for
rewrite
approve""".splitlines()
)

REASONS: Final = tuple(
    """\
it is required for the next step
the user asked for it
the previous attempt failed
the results were incomplete
the deadline is close
two sources disagree
the price has changed
the token has expired
this is the cheapest option
there is a conflict in the calendar
the page could not be loaded
we need a confirmation first
the file was not found
the test still fails
the answer depends on it""".splitlines()
)

SENTENCES: Final = tuple(
    """\
I will {verb} {topic} first, because {reason}.
Let me {verb} {topic} and then {verb} {topic}.
The {tool} tool returned {n} results; the best one is {city} for {price} USD.
I found {n} flights from {city} to {city} on {date}, the cheapest costs {price} EUR.
{person} asked to {verb} {topic} before {date}.
Please {verb} {topic} and tell {person} when it is done.
Thanks! Could you also {verb} {topic}?
I have finished: {topic} is ready and {person} has been informed.
There was an error while calling {tool}: request timed out after {n} seconds. I will try again.
Here is a summary of {topic}: {n} items are {status} and {n} are {status}.
The user prefers a window seat and wants to arrive in {city} before noon.
Next, I need to {verb} {topic} since {reason}.
What is the weather in {city} on {date}?
The weather in {city} is {n} degrees with light rain in the afternoon.
Step {n} is {status}. Moving on to step {n}.
I could not {verb} {topic}, because {reason}. Do you want me to continue?
Sure, I can help you {verb} {topic}. Which date works for you?
You are a helpful assistant. Answer the question using the tools that are available to you.
Based on the information above, the answer is that {topic} should be {status}.
{person} has approved {topic}; it will be {status} by {date}.
The function returns None when the list is empty, so the test in line {n} fails.
I changed {n} files and all tests pass now. Shall I commit the changes?
The total is {price} USD including taxes, which is within the budget.
According to the documentation, this option must be set before the server starts.
No results were found for this query. I will {verb} {topic} with different keywords.""".splitlines()
)
